"""Tracing finds what is there, leaves the model alone and names what it lacks."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmcompress.costs import Costs, CostTable
from mmcompress.errors import TraceError
from mmcompress.graph import fingerprint, trace, verify
from mmcompress.policy import SearchSpace
from mmcompress.testing import ToyNetwork, toy_graph


def state_of(model: nn.Module) -> tuple:
    """Everything that a trace might change."""
    values = {k: v.clone() for k, v in model.state_dict().items()}
    attributes = {n: {k: v for k, v in vars(m).items() if not k.startswith('_')}
                  for n, m in model.named_modules()}
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks))
             for m in model.modules()]
    grads = [p.requires_grad for p in model.parameters()]
    return values, attributes, hooks, grads


def assert_untouched(model: nn.Module, before: tuple) -> None:
    values, *rest = state_of(model)
    assert all(torch.equal(v, values[k]) for k, v in before[0].items())
    assert values.keys() == before[0].keys()
    assert rest == list(before[1:])


def test_the_toy_network_is_its_graph():
    traced, wanted = trace(ToyNetwork(), (3, 16, 16)), toy_graph()
    assert traced.layers == wanted.layers
    assert traced.params == wanted.params
    assert traced.input_shape == traced.trace_shape == (3, 16, 16)
    assert not (traced.excluded or traced.unsupported or traced.unvisited)
    assert wanted.norm_params.items() <= traced.norm_params.items()

    def plain(graph):
        return {u.name: (u.granularity, {
            (m.layer, m.side): m.positions.tolist() for m in u.members})
            for u in graph.units}

    assert plain(traced) == plain(wanted)
    assert [u.name for u in traced.units] == [u.name for u in wanted.units]
    one, other = CostTable.from_graph(traced), CostTable.from_graph(wanted)
    for name in ('out_per_unit', 'in_per_unit', 'out_fixed', 'in_fixed', 'kernel',
                 'positions', 'bias', 'reads', 'writes', 'groups_per_out',
                 'other_per_unit', 'other_fixed'):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize('training', [True, False])
def test_the_model_is_left_as_it_was(training):
    model = ToyNetwork().train(training)
    model.stem_bn.eval()  # norm_eval
    model.stem.requires_grad_(False)
    before = state_of(model)
    verify(model, trace(model, (3, 16, 16)))
    assert_untouched(model, before)


def test_a_failing_trace_leaves_the_model_as_it_was(net):
    model = net(lambda m, x: m.b(m.bn(m.a(x))), a=nn.Conv2d(3, 4, 1),
                bn=nn.BatchNorm2d(4), b=nn.Conv2d(5, 2, 1))
    before = state_of(model)
    with pytest.raises(TraceError, match=(
            r'^Net does not run on an image of shape \(3, 8, 8\): RuntimeError: .*'
            r'Set compression.input_shape to \(C, H, W\) that it accepts')):
        trace(model, (3, 8, 8))
    assert_untouched(model, before)


def test_no_unit_is_an_error(net):
    model = net(lambda m, x: m.a(x), a=nn.Conv2d(3, 4, 1))
    with pytest.raises(TraceError, match=(
            r'^Net has no prunable unit: every channel is tied to the outputs or to an '
            r'operator that mixes channels. .*not understood: none')):
        trace(model, (3, 8, 8))


def test_a_larger_image_where_a_small_one_does_not_run(net):
    model = net(lambda m, x: m.b(m.a(x)), a=nn.Conv2d(3, 4, 70, groups=1),
                b=nn.Conv2d(4, 2, 1))
    graph = trace(model, (3, 300, 80))
    assert graph.trace_shape == (3, 128, 80)
    assert graph.layers[0].positions == (300 - 69) * (80 - 69)


def test_fingerprint_is_of_names_and_shapes():
    one, other = ToyNetwork(0), ToyNetwork(1)
    same = fingerprint(one)
    assert len(same) == 16 and int(same, 16) >= 0
    assert fingerprint(other) == same
    assert trace(one, (3, 16, 16)).fingerprint == same
    other.fc = nn.Linear(128, 15)
    renamed = copy.deepcopy(one)
    renamed.lin = renamed.fc
    del renamed.fc
    buffered = copy.deepcopy(one)
    buffered.register_buffer('mean', torch.zeros(3))
    assert len({same, *map(fingerprint, (other, renamed, buffered))}) == 4


def test_layers_that_never_run_are_named(net):
    model = net(lambda m, x: m.b(m.a(x)), a=nn.Conv2d(3, 4, 1),
                b=nn.Conv2d(4, 2, 1), aux=nn.Sequential(nn.Conv2d(4, 2, 1)))
    graph = trace(model, (3, 8, 8))
    assert graph.unvisited == ('aux.0',)
    assert [layer.name for layer in graph.layers] == ['a', 'b']
    assert graph.params == 16 + 10 + 10


def test_products_outside_layers_are_counted(net):
    def forward(m, x):
        x = m.b(m.a(x).relu()).flatten(2)
        return F.conv2d((x @ x.transpose(1, 2))[:, None], m.kernel)

    model = net(forward, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(4, 2, 1),
                kernel=nn.Parameter(torch.rand(1, 1, 1, 1)))
    graph = trace(model, (3, 8, 8))
    assert graph.unsupported == {'bmm': 1}
    # The 1 x 1 kernel, a parameter, is applied to the 2 x 2 products.
    assert graph.fixed_macs == 4


class OwnAttention(nn.MultiheadAttention):
    """Of a subclass nothing is known: it may compute something else."""


def test_projections_of_attention_count_and_are_not_governed(net):
    def forward(m, x):
        tokens = m.b(m.a(x)).flatten(2).transpose(1, 2)
        return m.mha(tokens, tokens, tokens)[0]

    model = net(forward, a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(8, 4, 1),
                mha=OwnAttention(4, 2, batch_first=True))
    graph = trace(model, (3, 2, 4))
    # 8 tokens x 4 matrices of 4 x 4; a and b: 8 positions x (24 + 32).
    assert graph.fixed_macs == 8 * 64
    assert graph.governed == 448 / (448 + 512)
    costs = Costs(CostTable.from_graph(graph), SearchSpace.from_graph(graph))
    assert costs.dense()['macs'] == 960
    assert costs.dense()['bops'] == 960 * 32 * 32


@pytest.mark.parametrize('layer', [
    nn.Conv2d(4, 6, 3, stride=2, padding=1),
    nn.Conv2d(4, 6, (3, 1), padding=(2, 0), dilation=(2, 1)),
    nn.Conv2d(4, 6, 3, padding='same'),
    nn.Conv2d(4, 6, 5, padding=2, padding_mode='reflect', groups=2),
    nn.Conv2d(4, 6, 4, stride=3),
], ids=str)
def test_positions_are_those_of_a_real_forward(net, layer):
    model = net(lambda m, x: m.b(m.layer(m.a(x)).relu()), a=nn.Conv2d(3, 4, 1),
                layer=layer, b=nn.Conv2d(6, 2, 1))
    graph = trace(model, (3, 17, 22))
    out = layer(torch.zeros(1, 4, 17, 22))
    found = {found.name: found for found in graph.layers}['layer']
    assert found.positions == out[0, 0].numel()
    assert found.weights == layer.weight.numel()
    assert found.has_bias and found.groups == layer.groups
    assert graph.unsupported == {}


def test_transposed_convs_and_tokens_count_where_they_are_applied(net):
    def forward(m, x):
        return m.c(m.b(m.t(m.a(x)).flatten(2).transpose(1, 2)).relu())

    model = net(forward, a=nn.Conv2d(3, 4, 1), t=nn.ConvTranspose2d(4, 6, 2, 2),
                b=nn.Linear(6, 5), c=nn.Linear(5, 2))
    graph = trace(model, (3, 4, 5))
    # Every one of the 20 inputs of t meets its 4 * 6 * 4 weights; 80 tokens behind.
    assert {x.name: (x.kind, x.positions, x.macs) for x in graph.layers} == {
        'a': ('conv', 20, 20 * 12), 't': ('conv_transpose', 20, 20 * 96),
        'b': ('linear', 80, 80 * 30), 'c': ('linear', 80, 80 * 10)}
    assert graph.unsupported == {}


def test_a_shared_layer_counts_every_call(net):
    def forward(m, x):
        x = m.a(x)
        return [m.head(y) for y in (x, F.avg_pool2d(x, 2), F.avg_pool2d(x, 4))]

    model = net(forward, a=nn.Conv2d(3, 4, 1), head=nn.Conv2d(4, 2, 1))
    head = trace(model, (3, 8, 8)).layers[1]
    assert (head.calls, head.positions) == (3, 64 + 16 + 4)
