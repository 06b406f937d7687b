"""Pooling written anew."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, reference

from mmcompress.exporter.passes.pooling import ChainMaxPools, NameGlobalPooling


def pools(*options: dict) -> ir.Model:
    """Max poolings of one image, side by side."""
    nodes = [helper.make_node(
        'MaxPool', ['x'], [f'y{i}'], **dict(
            kernel_shape=[k, k], pads=[k // 2] * 4, strides=[1, 1]) | other)
        for i, (k, other) in enumerate(
            (x['k'], {n: v for n, v in x.items() if n != 'k'}) for x in options)]
    image = helper.make_tensor_value_info('x', TensorProto.FLOAT, [1, 2, 8, 11])
    return ir.from_proto(helper.make_model(helper.make_graph(
        nodes, 'pools', [image],
        [helper.make_empty_tensor_value_info(f'y{i}') for i in range(len(nodes))]),
        opset_imports=[helper.make_opsetid('', 21)], ir_version=10))


def run(model: ir.Model) -> list[np.ndarray]:
    # Below 0, so that a border of zeros would show.
    x = np.random.default_rng(0).standard_normal((1, 2, 8, 11)).astype('f') - 5
    return reference.ReferenceEvaluator(ir.to_proto(model)).run(None, {'x': x})


def test_pyramid_pooling_is_a_chain_of_small_windows():
    model = pools(dict(k=5), dict(k=9), dict(k=13))
    wanted = run(model)
    result = ChainMaxPools()(model)
    assert result.modified and result.model is model
    nodes = list(model.graph)
    assert [list(n.attributes.get_ints('kernel_shape')) for n in nodes] == [[5, 5]] * 3
    assert [n.inputs[0] for n in nodes] == [
        model.graph.inputs[0], *model.graph.outputs[:2]]
    for got, x in zip(run(model), wanted):
        np.testing.assert_array_equal(got, x)


@pytest.mark.parametrize('other', [
    dict(k=9, strides=[2, 2]), dict(k=9, dilations=[2, 2]), dict(k=9, pads=[3] * 4),
    dict(k=8, pads=[4, 4, 3, 3]), dict(k=5), dict(k=9, kernel_shape=[9, 7])])
def test_other_pools_stay(other):
    model = pools(dict(k=5), other)
    before = ir.to_proto(model).SerializeToString()
    assert not ChainMaxPools()(model).modified
    assert ir.to_proto(model).SerializeToString() == before


def means(axes: list[int], **attributes: int) -> ir.Model:
    """The mean of an image over some axes."""
    x = ir.val('x', ir.DataType.FLOAT, (1, 2, 8, 11))
    tape = ir.tape.Tape()
    y = tape.op('ReduceMean', [x, tape.initializer(ir.tensor(axes), 'axes')],
                attributes)
    return ir.Model(ir.Graph(
        [x], [y], nodes=tape.nodes, initializers=tape.initializers,
        opset_imports={'': 21}, name='means'), ir_version=10)


@pytest.mark.parametrize('axes', [[2, 3], [-1, -2]])
def test_means_over_all_pixels_are_global_pooling(axes):
    model = means(axes)
    wanted = run(model)
    assert NameGlobalPooling()(model).modified
    [node] = model.graph
    assert node.op_type == 'GlobalAveragePool'
    assert list(node.inputs) == list(model.graph.inputs) and not node.attributes
    np.testing.assert_allclose(run(model)[0], wanted[0], rtol=1e-6)


@pytest.mark.parametrize('other', [means([1]), means([2, 3], keepdims=0)])
def test_other_means_stay(other):
    assert not NameGlobalPooling()(other).modified
    assert [node.op_type for node in other.graph] == ['ReduceMean']
