"""Layers that do not bear 8 bits are found, and the rest is put into integers."""


import numpy as np
import onnx_ir as ir
import pytest
import torch
from quantised_files import random_images

from mmcompress.data.images import Batch
from mmcompress.errors import CompressionError, ExportError
from mmcompress.exporter.eight_bits import (
    EightBits,
    bits_of,
    leave_in_float,
    quantise_layers,
)
from mmcompress.exporter.export import (
    ExportOptions,
    export_onnx,
    float_parts,
    quantised_part,
)
from mmcompress.exporter.passes.layers import layer_of
from mmcompress.exporter.quantise import qdq
from mmcompress.exporter.quantise.float_layers import (
    Reference,
    find_float_layers,
    relative_difference,
)
from mmcompress.exporter.quantise.plan import plan_in, plan_of

SHAPE = (3, 32, 32)
BAD = 'backbone.layer2.0.conv2'


@pytest.fixture
def images():
    return random_images(32, 4)


@pytest.fixture
def uneven(classifier):
    """The classifier, where one channel that a layer reads is 1000 times the others.

    What follows undoes it, so that in float nothing has changed; a scale that fits this
    channel has no step for the others.
    """
    block = classifier.backbone.layer2[0]
    with torch.no_grad():
        for tensor in (block.bn1.weight, block.bn1.bias):
            tensor[1] = tensor[1].abs() * 1000  # 0 is behind a ReLU
        block.conv2.weight[:, 1] /= 1000
    return classifier


def quantised(model, images, runtime='onnxruntime', **options):
    """The model in 8 bits as --int8 makes it, and what was found."""
    batches = [Batch(torch.from_numpy(image), []) for image in images]
    bits = EightBits(**options)
    quantise_layers(model, SHAPE, batches, bits)
    export = ExportOptions(
        SHAPE, images=images, runtime=runtime, half_weights=True)
    parts = float_parts(model, export)
    return leave_in_float(model, parts, export, bits), parts, export


def test_error_is_relative_to_the_variance():
    # Outputs 0 and 2 have a variance of 1; one of the two is off by 1.
    assert relative_difference(np.array([1.0, 2.0]), np.array([0.0, 2.0])) == 0.5


@pytest.mark.parametrize('runtime', ['onnxruntime', 'openvino'])
def test_the_layer_that_does_not_bear_it_stays_in_float(uneven, images, runtime):
    found, _, _ = quantised(uneven, images, runtime, limit=0.002)
    assert found.floats[0] == BAD and next(iter(found.errors)) == BAD
    assert found.error <= 0.002 < found.before
    bits = bits_of(uneven)
    assert BAD not in bits and len(bits) == found.layers
    # One of seven convolutions and a linear layer.
    assert found.layers == 7
    assert f'in float: {BAD}' in str(found)


def test_nothing_stays_in_float_where_all_is_within_the_limit(classifier, images):
    found, _, _ = quantised(classifier, images, limit=0.5)
    assert found.floats == () and not found.errors
    assert found.error == found.before <= 0.5


def test_the_error_is_that_of_the_file(uneven, images, tmp_path):
    found, parts, export = quantised(uneven, images, limit=0.002)
    [file] = export_onnx(uneven, tmp_path / 'net.onnx', export, parts)
    reference = Reference.of(parts[0].network, images)
    assert reference.error(ir.load(file.path)) == pytest.approx(found.error, rel=1e-3)


def test_weights_of_layers_in_float_are_stored_in_16_bits(uneven, images, tmp_path):
    _, parts, export = quantised(uneven, images, limit=0.002)
    [file] = export_onnx(uneven, tmp_path / 'net.onnx', export, parts)
    nodes = {layer_of(node): node for node in ir.load(file.path).graph}
    cast = nodes[BAD].inputs[1].producer()
    assert (cast.op_type, cast.inputs[0].dtype) == ('Cast', ir.DataType.FLOAT16)
    good = nodes['backbone.layer1.0.conv1'].inputs[1].producer()
    assert good.op_type == 'DequantizeLinear'


def test_ranges_are_measured_once(uneven, images, monkeypatch):
    seen = []
    observe = qdq.observe_tensors
    monkeypatch.setattr(qdq, 'observe_tensors', lambda model, values, images: (
        seen.extend(values), observe(model, values, images))[1])
    _, parts, export = quantised(uneven, images, limit=0.002)
    assert seen and len(seen) == len(set(seen))
    measured = len(seen)
    plan = plan_in(parts[0].network.graph, plan_of(uneven))
    quantised_part(parts[0], plan, export, 0)
    assert len(seen) == measured


def test_layers_can_be_named_instead(uneven, images):
    found, _, _ = quantised(uneven, images, skip=('backbone.layer3.*', 'first'))
    assert found.error is None and found.floats == ('backbone.layer3.*', 'first')
    kept = bits_of(uneven)
    assert BAD in kept and 'backbone.conv1' not in kept
    assert not any(name.startswith('backbone.layer3') for name in kept)


def test_a_name_of_no_layer(classifier):
    with pytest.raises(CompressionError, match='matches no layer'):
        quantise_layers(classifier, SHAPE, [], EightBits(skip=('nobody',)))


def test_a_network_with_bits_is_refused(classifier, images):
    quantised(classifier, images, limit=0.5)
    with pytest.raises(CompressionError, match='has bits already'):
        quantise_layers(classifier, SHAPE, [], EightBits())


def test_a_limit_that_no_layer_meets(uneven, images):
    batches = [Batch(torch.from_numpy(image), []) for image in images]
    quantise_layers(uneven, SHAPE, batches, EightBits())
    [part] = float_parts(uneven, ExportOptions(SHAPE, images=images))
    with pytest.raises(ExportError, match='--int8-limit'):
        find_float_layers(part.network, plan_of(uneven), images, 1e-12)


def test_a_refusal_names_the_worst_layers(uneven, images, tmp_path):
    batches = [Batch(torch.from_numpy(image), []) for image in images]
    quantise_layers(uneven, SHAPE, batches, EightBits())
    options = ExportOptions(SHAPE, images=images, quantised_tolerance=1e-9)
    with pytest.raises(ExportError, match=rf"layers.*: {BAD} \(.*skip=\['{BAD}', "):
        export_onnx(uneven, tmp_path / 'net.onnx', options)
    assert not list(tmp_path.iterdir())
