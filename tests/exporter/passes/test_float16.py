"""Networks in 16-bit floats."""

import numpy as np
import onnx_ir as ir
import pytest
import torch
from quantised_files import quantise, random_images
from torch import nn

from mmcompress.errors import ExportError
from mmcompress.exporter.export import ExportOptions, export_onnx
from mmcompress.exporter.runtimes import load_runtime
from mmcompress.policy import Bits

SHAPE = (3, 16, 16)


class Upsampled(nn.Module):
    """Has what is special: the scales of a resizing stay in float32."""

    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x):
        x = nn.functional.silu(self.conv(x))
        x = nn.functional.interpolate(x, scale_factor=2, mode='bilinear')
        return x, self.last(x.mean((2, 3)))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Upsampled().eval()


def test_half_the_size_and_nearly_the_numbers(network, tmp_path):
    wide, narrow = (
        export_onnx(network, tmp_path / f'{half}.onnx',
                    ExportOptions(SHAPE, float16=half))[0] for half in (False, True))
    graph = ir.load(narrow.path).graph
    weights = {x.dtype for x in graph.initializers.values()
               if x.shape.rank() and x.dtype != ir.DataType.INT64 and x.uses()
               and x.uses()[0].node.op_type != 'Resize'}
    assert weights == {ir.DataType.FLOAT16}
    assert {x.dtype for x in (*graph.inputs, *graph.outputs)} == {ir.DataType.FLOAT}
    assert [x.name for x in graph.outputs] == ['output_0', 'output_1']
    image = random_images(16, 1)[0]
    for got, wanted in zip(*(load_runtime('onnxruntime', x.path)(image)
                             for x in (narrow, wide))):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, wanted, atol=1e-2 * np.abs(wanted).max())
        assert not np.array_equal(got, wanted)


def test_not_with_boxes_nor_with_integers(network, tmp_path):
    with pytest.raises(ExportError, match='leave --float16 or --boxes out'):
        ExportOptions(SHAPE, float16=True, boxes=True)
    image = random_images(16, 1)
    quantise(network, lambda: network(torch.from_numpy(image[0])), Bits(8, 8))
    with pytest.raises(ExportError, match='leave --float16 out'):
        export_onnx(network, tmp_path / 'net.onnx',
                    ExportOptions(SHAPE, float16=True, images=image))
