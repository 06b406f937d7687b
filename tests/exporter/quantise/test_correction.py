"""Biases after correction: every mean is the reference's, each layer computed once."""

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from mmcompress.exporter.quantise.correction import (
    channel_means,
    correct_biases,
    steps_of,
)

LAYERS = ('a', 'b', 'c')


def chain(factor: float) -> ir.Model:
    """Three layers, their outputs multiplied and clipped, and a sum past the second."""
    rng = np.random.default_rng(0)
    constants = dict(factor=np.float32(factor))
    nodes, source = [], 'x'
    for name in LAYERS:
        constants[f'{name}.weight'] = rng.standard_normal((4, 4, 1, 1)).astype('f')
        constants[f'{name}.bias'] = rng.standard_normal(4).astype('f')
        nodes += [
            helper.make_node('Conv', [source, f'{name}.weight', f'{name}.bias'],
                             [f'{name}_conv'], name),
            helper.make_node('Mul', [f'{name}_conv', 'factor'], [f'{name}_mul']),
            helper.make_node('Relu', [f'{name}_mul'], [f'{name}_out'])]
        source = f'{name}_out'
        if name == 'b':
            nodes.append(helper.make_node('Add', ['a_out', 'b_out'], ['sum']))
            source = 'sum'
    shape = ['n', 4, 5, 5]
    return ir.from_proto(helper.make_model(helper.make_graph(
        nodes, 'chain', [helper.make_tensor_value_info('x', TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info('c_out', TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]),
        opset_imports=[helper.make_opsetid('', 21)], ir_version=10))


def test_all_means_are_those_of_the_reference():
    rng = np.random.default_rng(1)
    images = [rng.standard_normal((1, 4, 5, 5)).astype('f') for _ in range(3)]
    reference, model = chain(1.0), chain(0.8)

    def means(of: ir.Model) -> np.ndarray:
        values = [of.graph.node(name).outputs[0] for name in LAYERS]
        return np.array([x.values for x in channel_means(of, values, images)])

    assert np.abs(means(model) - means(reference))[1:].max() > 0.05
    correct_biases(model, reference, images)
    np.testing.assert_allclose(means(model), means(reference), atol=1e-5)


def test_steps_start_from_the_layers_before():
    steps = steps_of(chain(1.0))
    assert [step.bias for step in steps] == [f'{name}.bias' for name in LAYERS]
    assert [step.inputs for step in steps] == [
        ('x',), ('a_conv',), ('a_conv', 'b_conv')]
    # Of the second: the first one's factor and ReLU, and itself.
    assert [len(step.part.graph) for step in steps] == [1, 3, 6]
    assert [step.finished for step in steps] == [
        ('x',), (), ('a_conv', 'b_conv', 'c_conv')]
