"""Files for OpenVINO and TensorRT compute what the fake-quantised model computes."""

import numpy as np
import onnx_ir as ir
import pytest
import torch
from quantised_files import quantise, random_images
from torch import nn

from mmcompress.arithmetic.ranges import SIGNED
from mmcompress.data.images import Batch
from mmcompress.errors import ExportError
from mmcompress.exporter.editing import array, is_constant
from mmcompress.exporter.eight_bits import EightBits, quantise_layers
from mmcompress.exporter.export import ExportOptions, export_onnx
from mmcompress.exporter.passes.layers import LAYERS
from mmcompress.exporter.quantise.runtime_rules import RULES
from mmcompress.exporter.runtimes import load_runtime
from mmcompress.layers.quantised import quantised_layers
from mmcompress.policy import Bits
from mmcompress.policy.points import PointSite
from mmcompress.quant.points import add_file_points

EXACT = [name for name, rules in RULES.items() if not rules.computing]


class Branches(nn.Module):
    """Two layers of different bits read one tensor, which is added and upsampled, too.

    A batch norm would move values next to ties; there is none.
    """

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.fine, self.coarse = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(16, 4, 1)

    def forward(self, x):
        x = nn.functional.silu(self.first(x))
        both = torch.cat([x + self.fine(x), self.coarse(x)], 1)
        return self.last(nn.functional.interpolate(both, scale_factor=2))


@pytest.fixture
def images():
    return random_images(32, 2)


@pytest.fixture
def branches(images):
    torch.manual_seed(0)
    model = Branches().eval()
    quantise(model, lambda: model(torch.from_numpy(images[0])), Bits(8, 8))
    return model


def signed(model, images):
    """Put a model into 8 bits as --int8 --runtime tensorrt does."""
    shape = images[0].shape[1:]
    batches = [Batch(torch.from_numpy(image), []) for image in images]
    quantise_layers(model, shape, batches, EightBits(weight_bits=8, symmetric=SIGNED))
    return model


def exported(model, folder, runtime, images=()):
    [file] = export_onnx(
        model, folder / f'{runtime}.onnx',
        ExportOptions((3, 32, 32), images=images, runtime=runtime))
    return file.path


def difference(path, backend, model, images):
    """Largest difference from the model, over its largest output."""
    run, worst = load_runtime(backend, path, 1), 0.0
    for image in images:
        with torch.no_grad():
            wanted = model(torch.from_numpy(image)).numpy()
        error = np.abs(run(image)[0] - wanted).max() / np.abs(wanted).max()
        worst = max(worst, error)
    return worst


@pytest.mark.parametrize('backend', ['onnxruntime', 'openvino'])
def test_a_file_for_openvino_computes_what_the_model_does(
        branches, images, tmp_path, backend):
    pytest.importorskip(backend)
    layers = quantised_layers(branches)
    for name, bits in dict(fine=Bits(4, 8), coarse=Bits(7, 5)).items():
        was = layers[name].input_quantizer
        step, zero = was.step.item(), was.zero_point.item()
        layers[name].set_bits(bits)
        layers[name].weight_quantizer.assign(
            layers[name].weight_rows().abs().amax(1)
            / layers[name].weight_quantizer.quant_max)
        scale = 255 / (2 ** bits.activation - 1)
        layers[name].input_quantizer.assign(step * scale, round(zero / scale))
    path = exported(branches, tmp_path, 'openvino')  # needs no calibration images
    # A value next to a tie may land on the other integer.
    assert difference(path, backend, branches, images) < 1e-2
    # INT4 convolutions are not among what it has.
    kinds = {x.dtype for x in ir.load(path).graph.initializers.values()}
    assert ir.DataType.INT4 not in kinds


@pytest.fixture(scope='module')
def yolox(new_detector, tmp_path_factory):
    """The small YOLOX in symmetric 8 bits, and its file for a runtime."""
    model, images = new_detector(), random_images(64, 2)
    signed(model, images)
    folder, found = tmp_path_factory.mktemp('yolox'), {}

    def file(runtime):
        if runtime not in found:
            [found[runtime]] = export_onnx(
                model, folder / f'{runtime}.onnx',
                ExportOptions((3, 64, 64), images=images, runtime=runtime))
        return found[runtime].path

    return model, file


def test_only_layers_read_integers(yolox):
    model, file = yolox
    graph = ir.load(file('openvino')).graph
    layers = [node for node in graph if node.op_type in LAYERS]
    assert len({node.inputs[1] for node in layers}) == len(quantised_layers(model))
    for node in layers:
        assert [x.producer().op_type for x in node.inputs[:2]] == [
            'DequantizeLinear'] * 2
        assert is_constant(node.inputs[2])
    for node in graph:
        if node.op_type == 'DequantizeLinear':
            assert {x.op_type for x in node.outputs[0].consumers()} <= set(LAYERS)
    # What two layers read is quantised once.
    sources = [node.inputs[0] for node in graph if node.op_type == 'QuantizeLinear']
    assert len(sources) == len(set(sources))


def test_openvino_fuses_every_silu(yolox):
    pytest.importorskip('openvino')
    path = yolox[1]('openvino')
    products = {node.name for node in ir.load(path).graph if node.op_type == 'Mul'}
    run = load_runtime('openvino', path, 1, profile=True)
    run(random_images(64, 1)[0])
    fused = {name for kernel in run.kernel_times() for name in kernel.names
             if kernel.kind in ('Convolution', 'GroupConvolution')}
    assert products and products <= fused


def test_documented_rules_of_tensorrt(yolox):
    # "Working with Quantized Types" of NVIDIA's documentation.
    graph = ir.load(yolox[1]('tensorrt')).graph
    for node in graph:
        if node.op_type in ('QuantizeLinear', 'DequantizeLinear'):
            scale, zero = map(array, node.inputs[1:])
            assert zero.dtype == np.int8 and not zero.any() and (scale > 0).all()
        if node.op_type == 'QuantizeLinear':
            # Pairs, one scale a tensor; not of weights, which are integers already.
            assert not is_constant(node.inputs[0]) and array(node.inputs[1]).ndim == 0
            [reader] = node.outputs[0].consumers()
            assert reader.op_type == 'DequantizeLinear'
            # None around a SiLU: what is quantised is not an input of it, ...
            readers = {x.op_type for x in node.inputs[0].consumers()}
            assert 'Sigmoid' not in readers
        if node.op_type in ('Sigmoid', 'Mul', 'Add'):  # ... nor are its inputs.
            assert all(x.producer().op_type != 'DequantizeLinear' for x in node.inputs)
        if node.op_type == 'Conv':
            source, weight = (x.producer() for x in node.inputs[:2])
            assert source.op_type == weight.op_type == 'DequantizeLinear'
            assert source.inputs[0].producer().op_type == 'QuantizeLinear'
            # Weights by output channel, within -127 .. 127; biases in float.
            integers, scale = map(array, weight.inputs[:2])
            assert integers.dtype == np.int8 and integers.min() >= -127
            assert weight.attributes['axis'].value == 0
            assert scale.shape == integers.shape[:1]
            assert array(node.inputs[2]).dtype == np.float32


def test_arithmetic_of_a_file_for_tensorrt(images, tmp_path):
    torch.manual_seed(0)
    model = signed(Branches().eval(), images)
    path = exported(model, tmp_path, 'tensorrt')
    assert difference(path, 'onnxruntime', model, images) < 1e-2


def test_tensorrt_refuses_what_is_not_symmetric(branches, images, tmp_path):
    with pytest.raises(ExportError, match=r'--int8 --runtime tensorrt'):
        exported(branches, tmp_path, 'tensorrt', images)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('runtime', EXACT)
def test_a_twin_is_refused(runtime, branches, tmp_path):
    add_file_points(branches, [PointSite('first', 'file_points.0')])
    with pytest.raises(ExportError, match='between its layers'):
        exported(branches, tmp_path, runtime)
