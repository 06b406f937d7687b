"""Stacked pixels become a convolution of twice the size; other graphs stay."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from mmcompress.exporter.editing import array
from mmcompress.exporter.passes.focus import FoldFocus, interleave, laid_out

OFFSETS = ((0, 0), (1, 0), (0, 1), (1, 1))  # as mmdet stacks them


def focus(offsets=OFFSETS, **attributes) -> ir.Model:
    """A convolution of stacked pixels, ``(1, 3, 8, 8)``."""
    x = ir.val('x', ir.DataType.FLOAT, (1, 3, 8, 8))
    tape = ir.tape.Tape()
    pixels = []
    for i, (row, column) in enumerate(offsets):
        value = x
        for axis, start in ((2, row), (3, column)):
            value = tape.op('Slice', [value, *(
                tape.initializer(ir.tensor([number]), f'{i}_{axis}_{name}')
                for name, number in zip(('start', 'end', 'axis', 'step'),
                                        (start, 8, axis, 2)))])
        pixels.append(value)
    stacked = tape.op('Concat', pixels, dict(axis=1))
    weight = np.random.default_rng(0).standard_normal((5, 12, 3, 3)).astype('f')
    y = tape.op('Conv', [stacked, tape.initializer(ir.tensor(weight), 'w')],
                dict(pads=[1] * 4) | attributes)
    return ir.Model(ir.Graph(
        [x], [y], nodes=tape.nodes, initializers=tape.initializers,
        opset_imports={'': 21}, name='focus'), ir_version=10)


def run(model: ir.Model) -> np.ndarray:
    x = np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype('f')
    return ReferenceEvaluator(ir.to_proto(model)).run(None, {'x': x})[0]


def test_the_image_is_convolved_itself():
    model = focus()
    wanted, old = run(model), array(model.graph.initializers['w'])
    assert FoldFocus()(model).modified
    conv = model.graph[-1]
    assert conv.inputs[0] is model.graph.inputs[0]
    np.testing.assert_array_equal(
        array(conv.inputs[1]), interleave(old, OFFSETS))
    # Integers of a plan are laid out the same way, also for a copy of the graph.
    for node in (conv, model.clone().graph[-1]):
        np.testing.assert_array_equal(laid_out(node)(old), array(conv.inputs[1]))
    np.testing.assert_allclose(run(model), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('model', [
    focus(strides=[2, 2]), focus(dilations=[2, 2]),
    focus(((0, 0), (1, 0), (0, 1), (0, 1)))])
def test_other_convolutions_stay(model):
    before = ir.to_proto(model).SerializeToString()
    assert not FoldFocus()(model).modified
    assert ir.to_proto(model).SerializeToString() == before
