"""Quantised files compute what the fake-quantised model computes, in integers."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from quantised_files import export_w8a8, quantise, random_images
from torch import nn

from mmcompress.arithmetic.ranges import Sample
from mmcompress.errors import ExportError
from mmcompress.exporter.agreement import relative_error
from mmcompress.exporter.editing import array
from mmcompress.exporter.export import ExportOptions, export_onnx
from mmcompress.exporter.passes.focus import interleave
from mmcompress.exporter.quantise.correction import correct_biases
from mmcompress.exporter.quantise.plan import QuantPoint, WeightPlan, plan_of
from mmcompress.exporter.quantise.ranges import (
    best_point,
    observe_tensors,
    point_of_range,
    rounded,
    silu,
)
from mmcompress.policy import Bits
from mmcompress.surgery.modes import in_float


def runtime_nodes(path) -> list[onnx.NodeProto]:
    """The operators that ONNX Runtime really runs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = f'{path}.optimised'
    onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    return list(onnx.load(options.optimized_model_filepath).graph.node)


def runtime_operators(path) -> list[str]:
    """Types of the operators that ONNX Runtime really runs."""
    return [node.op_type for node in runtime_nodes(path)]


# Weights of 8 bits are left out: a CPU without VNNI cuts off sums of their products.
@pytest.mark.parametrize('bits', [Bits(7, 8), Bits(4, 8), Bits(6, 5), Bits(2, 3)])
def test_files_of_a_chain_differ_by_rounding(classifier, tmp_path, bits):
    # A ReLU network without additions needs no points but its quantisers' own. What
    # is left are values next to a tie, which folding the batch norm may move to the
    # next integer: at most about one step of an activation.
    step = 1 / (2 ** bits.activation - 1)
    for stage in (classifier.backbone.layer1, classifier.backbone.layer2,
                  classifier.backbone.layer3):
        for i in range(len(stage)):
            stage[i] = nn.Sequential(
                stage[i].conv1, stage[i].bn1, nn.ReLU(), stage[i].conv2,
                stage[i].bn2, nn.ReLU())
    images = random_images(32, 3)
    quantise(classifier, lambda: classifier(torch.from_numpy(images[0])), bits)
    [file] = export_onnx(
        classifier, tmp_path / 'net.onnx', ExportOptions((3, 32, 32), images=images))
    session = onnxruntime.InferenceSession(
        file.path, providers=['CPUExecutionProvider'])
    for image in images:
        with torch.no_grad():
            wanted = classifier(torch.from_numpy(image)).numpy()
        assert relative_error(session.run(None, {'image': image})[0], wanted) < step
    kinds = {x.data_type for x in onnx.load(file.path).graph.initializer}
    assert (TensorProto.INT4 in kinds) == (bits.weight <= 4)


def test_residual_classifier_stays_in_integers(classifier, tmp_path):
    # An addition is only clipped before the next point, and the mean over the pixels
    # has a kernel in 8 bits: only the scores are in float.
    names, file = export_w8a8(classifier, random_images(32, 4), tmp_path)
    kinds = runtime_operators(file.path)
    assert kinds.count('QLinearAdd') == 3, kinds
    assert kinds.count('QLinearConv') == len(names) - 1
    assert kinds.count('QLinearGlobalAveragePool') == 1
    assert not {'Conv', 'Add', 'Relu', 'ReduceMean'} & set(kinds)


def test_detector_stays_in_integers_between_layers(detector, tmp_path):
    names, file = export_w8a8(detector, random_images(64, 4), tmp_path)
    assert file.error < 0.3
    kinds = runtime_operators(file.path)
    # 3 predictors on 2 levels have float outputs; the heads run on 2 levels each.
    predictors = 6
    assert kinds.count('QLinearConv') == len(names) - predictors
    assert kinds.count('Conv') == predictors
    assert kinds.count('QLinearSigmoid') == kinds.count('QLinearMul') == len(
        names) - predictors
    assert 'Slice' not in kinds and 'Sigmoid' not in kinds and 'Concat' not in kinds


def test_upsampling_moves_integers(detector, tmp_path):
    # The tensor that is upsampled is read by another layer too, at another point.
    _, file = export_w8a8(detector, random_images(64, 4), tmp_path)
    nodes = runtime_nodes(file.path)
    producers = {name: node.op_type for node in nodes for name in node.output}
    [resize] = [node for node in nodes if node.op_type == 'Resize']
    assert producers[resize.input[0]] == 'QuantizeLinear'
    assert 'QuantizeLinear' not in [
        node.op_type for node in nodes if resize.output[0] in node.input]


def test_layers_in_float_stay_in_float(detector, tmp_path):
    stem = 'backbone.stem.conv.conv'
    names, file = export_w8a8(detector, random_images(64, 2), tmp_path, (stem,))
    kinds = runtime_operators(file.path)
    assert kinds.count('QLinearConv') == len(names) - 6
    proto = onnx.load(file.path)
    assert f'model.{stem}.weight' in {x.name for x in proto.graph.initializer}
    # Its SiLU is in float as well: no point between it and the quantised reader.
    assert kinds.count('QLinearSigmoid') == len(names) - 6


def test_quantised_model_needs_images_and_keeps_its_bits(classifier, tmp_path):
    image = torch.randn(1, 3, 32, 32)
    quantise(classifier, lambda: classifier(image), Bits(8, 8))
    with pytest.raises(ExportError, match='calibration images'):
        export_onnx(classifier, tmp_path / 'net.onnx', ExportOptions((3, 32, 32)))
    before = classifier(image)
    with in_float(classifier):
        assert not plan_of(classifier)
    torch.testing.assert_close(classifier(image), before, rtol=0, atol=0)


def test_a_file_too_far_from_its_model_is_not_written(classifier, tmp_path):
    images = random_images(32, 2)
    quantise(classifier, lambda: classifier(torch.from_numpy(images[0])), Bits(8, 8))
    with pytest.raises(ExportError, match=r'tolerance 1e-12\).*--tolerance'):
        export_onnx(classifier, tmp_path / 'net.onnx', ExportOptions(
            (3, 32, 32), images=images, quantised_tolerance=1e-12))
    assert not list(tmp_path.iterdir())


def test_folding_flips_signs_and_scales_steps():
    weight = np.array([[1.0, -3.0], [2.0, 2.0], [1.0, 1.0]], np.float32)
    plan = WeightPlan(
        np.array([[2, -6], [4, 4], [1, 1]], np.int8),
        np.array([0.5, 0.5, 1], 'f'), 4, 0, weight)
    folded = plan.folded(weight * np.array([[2.0], [-3.0], [0.0]], 'f'))
    assert folded.integers.tolist() == [[2, -6], [-4, -4], [0, 0]]
    # 0.5 * 2, 0.5 * |-3|, and any positive step where nothing is left.
    assert folded.scale.tolist() == [1.0, 1.5, 1.0]


def test_focus_is_a_convolution_of_twice_the_size():
    image, weight = torch.randn(1, 3, 8, 8), torch.randn(5, 12, 3, 3)
    offsets = ((0, 0), (1, 0), (0, 1), (1, 1))  # as mmdet stacks them
    stacked = torch.cat([image[..., y::2, x::2] for y, x in offsets], 1)
    wanted = torch.conv2d(stacked, weight, padding=1)
    got = torch.conv2d(
        image, torch.from_numpy(interleave(weight.numpy(), offsets)), stride=2,
        padding=2)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_best_point():
    # 0..255 is on the grid of step 1.
    assert best_point(Sample(np.arange(256.0), np.ones(256))) == QuantPoint(1.0, 0)
    # An outlier that stands for no value does not count: about 0..255. The shares of
    # the range that are tried differ by a factor of 50^(1/39) = 1.106.
    outlier = Sample(np.append(np.arange(256.0), 1000), np.append(np.ones(256), 0))
    assert best_point(outlier).scale == pytest.approx(1.0, rel=0.106)
    # -100..10 has a step of 0.43; a SiLU does not care below about -6.
    values = np.linspace(-100, 10, 4000)
    point = best_point(Sample(values, np.ones(4000)), silu)
    low = -point.zero_point * point.scale
    assert -40 < low < -2
    error = np.abs(silu(rounded(values, point)) - silu(values)).max()
    plain = rounded(values, point_of_range(-100, 10))
    assert error < np.abs(silu(plain) - silu(values)).max() / 2


def network(*nodes: onnx.NodeProto, output: str = 'y', **constants) -> ir.Model:
    """A graph from ``x``, ``(1, 2, 1, 3)``, to ``y``."""
    return ir.from_proto(helper.make_model(helper.make_graph(
        nodes, 'net',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, (1, 2, 1, 3))],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v.astype(np.float32), k)
         for k, v in constants.items()]),
        opset_imports=[helper.make_opsetid('', 21)], ir_version=10))


def test_all_values_are_seen():
    model = network(helper.make_node('Neg', ['x'], ['y']))
    images = [np.array([0, 1, -4, 4, 4, 0], 'f').reshape(1, 2, 1, 3),
              np.array([16, 1, 0, 0, 0, 0], 'f').reshape(1, 2, 1, 3)]
    [y] = model.graph.outputs
    sample = observe_tensors(model, [y], images)[y]
    # The extremes stand for no value; the largest that is not negative is 0.
    assert sample.values.tolist() == [-16, -16, -4, -1, 0, 4, 4]
    assert sample.weights.tolist() == [0, 1, 2, 2, 6, 1, 0]


def test_biases_undo_a_shift_of_the_mean():
    # Both layers double. In the file 3 is added in front of the first, whose outputs
    # are 6 too high: 6 less in its bias, and nothing is left for the second to mend.
    double = 2 * np.eye(2).reshape(2, 2, 1, 1)
    layers = [helper.make_node('Conv', ['z', 'w', 'b'], ['u'], 'first'),
              helper.make_node('Conv', ['u', 'w', 'b2'], ['y'], 'second')]
    constants = dict(w=double, b=np.ones(2), b2=np.zeros(2))
    plain = network(helper.make_node('Identity', ['x'], ['z']), *layers, **constants)
    moved = network(helper.make_node('Add', ['x', 'c'], ['z']), *layers,
                    c=np.array(3.0), **constants)
    images = [np.random.default_rng(0).random((1, 2, 1, 3), np.float32)]
    correct_biases(moved, plain, images)
    biases = {name: array(x) for name, x in moved.graph.initializers.items()}
    np.testing.assert_allclose(biases['b'], [-5, -5], rtol=1e-5)
    np.testing.assert_allclose(biases['b2'], [0, 0], atol=1e-5)
