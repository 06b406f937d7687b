"""Pooling written anew."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, reference

from mmcompress.export.onnx_graph import OnnxGraph, attribute
from mmcompress.export.passes.pooling import chain_max_pools


def pools(*options: dict) -> onnx.ModelProto:
    """Max poolings of one image, side by side."""
    nodes = [helper.make_node(
        'MaxPool', ['x'], [f'y{i}'], **dict(
            kernel_shape=[k, k], pads=[k // 2] * 4, strides=[1, 1]) | other)
        for i, (k, other) in enumerate(
            (x['k'], {n: v for n, v in x.items() if n != 'k'}) for x in options)]
    image = helper.make_tensor_value_info('x', TensorProto.FLOAT, [1, 2, 8, 11])
    return helper.make_model(helper.make_graph(
        nodes, 'pools', [image],
        [helper.make_empty_tensor_value_info(f'y{i}') for i in range(len(nodes))]),
        opset_imports=[helper.make_opsetid('', 21)])


def run(proto: onnx.ModelProto) -> list[np.ndarray]:
    # Below 0, so that a border of zeros would show.
    x = np.random.default_rng(0).standard_normal((1, 2, 8, 11)).astype('f') - 5
    return reference.ReferenceEvaluator(proto).run(None, {'x': x})


def test_pyramid_pooling_is_a_chain_of_small_windows():
    proto = pools(dict(k=5), dict(k=9), dict(k=13))
    wanted = run(proto)
    chain_max_pools(OnnxGraph(proto))
    nodes = proto.graph.node
    assert [list(attribute(n, 'kernel_shape')) for n in nodes] == [[5, 5]] * 3
    assert [n.input[0] for n in nodes] == ['x', 'y0', 'y1']
    for got, x in zip(run(proto), wanted):
        np.testing.assert_array_equal(got, x)


@pytest.mark.parametrize('other', [
    dict(k=9, strides=[2, 2]), dict(k=9, dilations=[2, 2]), dict(k=9, pads=[3] * 4),
    dict(k=8, pads=[4, 4, 3, 3]), dict(k=5), dict(k=9, kernel_shape=[9, 7])])
def test_other_pools_stay(other):
    proto = pools(dict(k=5), other)
    before = proto.SerializeToString()
    chain_max_pools(OnnxGraph(proto))
    assert proto.SerializeToString() == before
