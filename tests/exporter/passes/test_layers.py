"""Nodes say which layer they compute, whatever torch's optimiser has merged."""

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from mmcompress.exporter.editing import array
from mmcompress.exporter.parts import FlatOutputs, Part
from mmcompress.exporter.passes.layers import (
    LAYER,
    SCOPES,
    MarkLayers,
    NameLinearWeights,
    layer_of,
)
from mmcompress.exporter.translate import to_onnx


class Net(nn.Module):
    """A convolution with a batch norm, and a linear layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.tokens = nn.Linear(4, 4)
        self.alias = self.tokens

    def forward(self, x):
        x = self.norm(self.conv(x)).flatten(2).transpose(1, 2)
        return self.alias(self.tokens(x)) @ x.transpose(1, 2)


@pytest.fixture(scope='module')
def exported() -> tuple[Net, ir.Model]:
    """The net and its graph."""
    torch.manual_seed(0)
    net = Net().eval()
    network = FlatOutputs(net, lambda model, x: model(x))
    inputs = (torch.randn(1, 3, 6, 6),)
    return net, to_onnx(Part(
        '', network, inputs, ('image',), False, lambda x: x, lambda x: (), {}))


def test_merged_and_repeated_layers_are_known(exported):
    _, model = exported
    found = [(node.op_type, layer_of(node)) for node in model.graph
             if node.op_type in ('Conv', 'MatMul', 'BatchNormalization')]
    # The last product is of two tensors, in no layer; an alias has the first name.
    assert found == [('Conv', 'conv'), ('MatMul', 'tokens'), ('MatMul', 'tokens'),
                     ('MatMul', None)]


def test_calls_of_a_linear_layer_share_its_weight(exported):
    net, model = exported
    first, second = (node for node in model.graph if layer_of(node) == 'tokens')
    assert first.inputs[1] is second.inputs[1]
    assert first.inputs[1].name == 'model.tokens.weight_transposed'
    np.testing.assert_array_equal(
        array(first.inputs[1]), net.tokens.weight.detach().numpy().T)


def product(metadata: dict[str, str], constant: bool = True) -> ir.Model:
    """A product of two tensors, one of them perhaps a constant."""
    x, y = (ir.val(name, ir.DataType.FLOAT, (2, 2)) for name in 'xy')
    tape = ir.tape.Tape()
    if constant:
        y = tape.initializer(ir.tensor(np.ones((2, 2), 'f')), 'y')
    z = tape.op('MatMul', [x, y], metadata_props=metadata)
    return ir.Model(ir.Graph(
        [x] if constant else [x, y], [z], nodes=tape.nodes,
        initializers=tape.initializers, opset_imports={'': 21}), ir_version=10)


@pytest.mark.parametrize(('scopes', 'layer'), [
    (['', 'model.tokens', 'linear'], 'tokens'), (['', 'model.alias', 'x'], 'tokens'),
    (['', 'model', 'matmul'], None), (['matmul'], None), (None, None)])
def test_only_the_innermost_module_is_the_layer(scopes, layer):
    model = product({} if scopes is None else {SCOPES: repr(scopes)})
    result = MarkLayers(FlatOutputs(Net(), None))(model)
    assert result.model is model and result.modified == (layer is not None)
    assert layer_of(model.graph[0]) == layer


def test_products_of_two_tensors_have_no_weight_to_name():
    for metadata, constant in (({}, True), ({LAYER: 'tokens'}, False)):
        model = product(metadata, constant)
        assert layer_of(model.graph[0]) is None
        assert not NameLinearWeights()(model).modified
        assert model.graph[0].inputs[1].name == 'y'
