"""Heads of ``nn.MultiheadAttention``: its projections become layers, in place."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmcompress.costs import Costs, CostTable
from mmcompress.data.images import Batch
from mmcompress.graph import trace, verify
from mmcompress.graph.trace import fingerprint
from mmcompress.layers.multihead import (
    PROJECTIONS,
    OpenMultiheadAttention,
    open_attentions,
)
from mmcompress.mutators import Calibration, ChannelMutator, JointMutator
from mmcompress.mutators.importance import channel_scores
from mmcompress.mutators.rebuild import rebuild
from mmcompress.policy import Policy, SearchSpace
from mmcompress.policy.files import PolicyFile
from mmcompress.surgery.materialise import materialise
from mmcompress.testing.networks import check_network, error, outputs

SHAPE = (3, 4, 8)
PACKED_KEYS = ['in_proj_weight', 'in_proj_bias', 'out_proj.weight', 'out_proj.bias']


def drawn(attention):
    """With all parameters drawn, those that begin as zeros too, in evaluation mode."""
    torch.manual_seed(1)
    for parameter in attention.parameters():
        nn.init.normal_(parameter)
    return attention.eval()


def opened(attention):
    """A copy that is opened."""
    twin = copy.deepcopy(attention)
    open_attentions(twin)
    assert type(twin) is OpenMultiheadAttention
    return twin


KINDS = {
    'plain': dict(),
    'batch first': dict(batch_first=True),
    'no biases': dict(bias=False, batch_first=True),
    'more tokens': dict(add_bias_kv=True, add_zero_attn=True),
    'other inputs': dict(kdim=8, vdim=6, batch_first=True)}
BOOL, HEADS, LATER = (torch.rand(5, 7) > 0.7, torch.rand(6, 5, 7) > 0.7,
                      torch.ones(5, 5).triu(1).bool())
BOOL[:, 0] = HEADS[..., 0] = False
PADDED = torch.tensor([[False] * 7, [False] * 5 + [True] * 2])
CALLS = {
    'no weights': dict(need_weights=False),
    'mean weights': dict(),
    'weights of heads': dict(average_attn_weights=False),
    'mask': dict(attn_mask=BOOL, need_weights=False),
    'scores to add': dict(attn_mask=BOOL.float(), key_padding_mask=PADDED.float()),
    'mask of every head': dict(attn_mask=HEADS, key_padding_mask=PADDED),
    'padding': dict(key_padding_mask=PADDED, need_weights=False),
    'causal': dict(attn_mask=LATER, is_causal=True, need_weights=False),
    'causal weights': dict(attn_mask=LATER, is_causal=True)}


@pytest.mark.parametrize('call', CALLS)
@pytest.mark.parametrize('kind', KINDS)
def test_an_opened_attention_computes_the_same(kind, call):
    kwargs, options = KINDS[kind], CALLS[call]
    attention = drawn(nn.MultiheadAttention(12, 3, **kwargs))
    keys = 5 if 'is_causal' in options else 7
    inputs = [torch.randn(2, 5, 12), torch.randn(2, keys, kwargs.get('kdim', 12)),
              torch.randn(2, keys, kwargs.get('vdim', 12))]
    if not attention.batch_first:
        inputs = [x.transpose(0, 1) for x in inputs]
    with torch.no_grad():
        wanted = attention(*inputs, **options)
        found = opened(attention)(*inputs, **options)
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-5, atol=1e-5)
    assert (found[1] is None) == (wanted[1] is None)
    if wanted[1] is not None:
        torch.testing.assert_close(found[1], wanted[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('batch_first', [False, True])
def test_one_image_without_an_axis_of_images(batch_first):
    attention = drawn(nn.MultiheadAttention(12, 3, batch_first=batch_first))
    options = dict(attn_mask=HEADS[:3], key_padding_mask=PADDED[1])
    x, y = torch.randn(5, 12), torch.randn(7, 12)
    with torch.no_grad():
        for found, wanted in zip(opened(attention)(x, y, y, **options),
                                 attention(x, y, y, **options), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_causal_hint_without_a_mask_is_refused_as_by_torch():
    x = torch.randn(5, 2, 12)
    for attention in (nn.MultiheadAttention(12, 3),
                      opened(nn.MultiheadAttention(12, 3))):
        with pytest.raises(RuntimeError, match='attn_mask'):
            attention(x, x, x, is_causal=True)


def test_dropout_while_training():
    attention = opened(nn.MultiheadAttention(12, 3, dropout=0.5)).train()
    x = torch.randn(5, 2, 12)
    _, weights = attention(x, x, x, average_attn_weights=False)
    assert (weights == 0).any() and (weights.sum(-1) > 1).any()


@pytest.mark.parametrize('kind', KINDS)
def test_the_keys_of_the_state_dict_stay(kind):
    attention = drawn(nn.MultiheadAttention(12, 3, **KINDS[kind]))
    if attention.in_proj_bias is not None:
        attention.in_proj_bias.requires_grad_(False)
    twin = opened(attention)
    wanted, found = attention.state_dict(), twin.state_dict()
    assert list(wanted) == list(found)
    assert all(torch.equal(wanted[key], found[key]) for key in wanted)
    assert fingerprint(attention) == fingerprint(twin)
    frozen = {name for name, p in twin.named_parameters() if not p.requires_grad}
    assert frozen == (set() if kind == 'no biases'
                      else {f'{name}.bias' for name in PROJECTIONS})

    other = opened(nn.MultiheadAttention(12, 3, **KINDS[kind]))
    other.load_state_dict(wanted)
    assert all(map(torch.equal, other.parameters(), twin.parameters()))
    attention.load_state_dict(found)  # and back into torch's class
    keys = other.load_state_dict({**wanted, 'in_proj_wight': 1}, strict=False)
    assert keys.unexpected_keys == ['in_proj_wight'] and not keys.missing_keys


def test_a_model_of_several(net):
    model = net(None, a=nn.Linear(2, 2), b=nn.MultiheadAttention(4, 2),
                c=nn.ModuleList([nn.MultiheadAttention(4, 2)]))
    wanted = {k: v.clone() for k, v in model.state_dict().items()}
    open_attentions(model)
    open_attentions(model)  # once more is not at all
    assert list(model.state_dict()) == list(wanted) == [
        'a.weight', 'a.bias', *(f'b.{k}' for k in PACKED_KEYS),
        *(f'c.0.{k}' for k in PACKED_KEYS)]
    model.load_state_dict({k: v + 1 for k, v in wanted.items()})
    assert all(torch.equal(v, wanted[k] + 1) for k, v in model.state_dict().items())
    assert torch.equal(model.b.in_proj_weight, wanted['b.in_proj_weight'] + 1)
    assert torch.equal(model.b.in_proj_bias, wanted['b.in_proj_bias'] + 1)


@pytest.mark.parametrize('moved', [False, True])
def test_what_is_written_to_a_state_dict_reaches_the_layers(moved):
    """As in torch's class: mmengine averages weights in a state dict."""
    attention = opened(nn.MultiheadAttention(12, 3))
    if moved:  # gives every parameter memory of its own
        attention.double()
    before, state = attention.k_proj.weight.clone(), attention.state_dict()
    state['in_proj_weight'] += 1
    state['in_proj_bias'][12:24] = 3
    assert torch.equal(attention.k_proj.weight, before + 1)
    assert attention.q_proj.bias.eq(0).all() and attention.k_proj.bias.eq(3).all()
    with torch.no_grad():
        attention.v_proj.weight.zero_()
    assert state['in_proj_weight'][24:].eq(0).all()
    twin = copy.deepcopy(attention).state_dict()
    assert all(torch.equal(twin[key], value) for key, value in state.items())


class Louder(nn.MultiheadAttention):
    """Computes something else than its base."""

    def forward(self, *args, **kwargs):
        out, weights = super().forward(*args, **kwargs)
        return 2 * out, weights


def test_what_is_not_opened(net):
    one, other = nn.MultiheadAttention(4, 2), nn.MultiheadAttention(4, 2)
    other.in_proj_weight = one.in_proj_weight
    model = net(None, louder=Louder(4, 2), one=one, other=other)
    open_attentions(model)
    assert not any(isinstance(m, OpenMultiheadAttention) for m in model.modules())


def self_attending(net, **kwargs):
    """12 channels at 4 x 8 places, an attention of 3 heads of 4, and 5 outputs."""
    def forward(m, x):
        x = m.a(x).flatten(2).transpose(1, 2)
        x = x + m.b(x, x, x, need_weights=False)[0]
        return m.d(m.c(x).relu().mean(1))

    return net(forward, a=nn.Conv2d(3, 12, 1), c=nn.Linear(12, 8), d=nn.Linear(8, 5),
               b=drawn(nn.MultiheadAttention(12, 3, batch_first=True, **kwargs)))


def test_members_of_a_head(net):
    model = self_attending(net, add_bias_kv=True)
    graph = trace(model, SHAPE)
    unit = graph.unit('b.q_proj')
    assert (unit.width, unit.granularity) == (3, 4)
    # The middle one of three heads of 4: channels 4 to 7.
    places = {(m.layer, m.side): m.positions[1].tolist() for m in unit.members}
    assert places == {('b', 'out'): [1], ('b.out_proj', 'in'): [4, 5, 6, 7], **{
        (f'b.{name}', 'out'): [4, 5, 6, 7] for name in PROJECTIONS}}
    # One more key and value of all heads: 4 numbers each of a head.
    assert graph.norm_params['b'] == 8


def test_the_channels_around_an_attention_may_go(net):
    graph = trace(self_attending(net), SHAPE)
    unit = graph.unit('a')
    assert unit.width == 12 and {(m.layer, m.side) for m in unit.members} == {
        ('a', 'out'), ('b.out_proj', 'out'), ('c', 'in'),
        *((f'b.{name}', 'in') for name in PROJECTIONS)}


def test_a_removed_head_is_one_whose_result_is_zero(net):
    model, image = self_attending(net, add_bias_kv=True), torch.randn(2, *SHAPE)
    graph = trace(model, SHAPE)
    # By hand: without columns 4-7 of the projection, head 1 says nothing.
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.b.out_proj.weight[:, 4:8] = 0
        wanted = twin(image)
    slim = materialise(
        model, graph, Policy({'b.q_proj': 2}), {'b.q_proj': np.array([0, 2])})
    assert (slim.b.num_heads, slim.b.head_dim, slim.b.bias_k.shape) == (2, 4, (1, 1, 8))
    shapes = {k[2:]: tuple(v.shape) for k, v in slim.state_dict().items()
              if k.startswith('b.')}
    assert shapes == {
        'in_proj_weight': (24, 12), 'in_proj_bias': (24,), 'out_proj.weight': (12, 8),
        'out_proj.bias': (12,), 'bias_k': (1, 1, 8), 'bias_v': (1, 1, 8)}
    with torch.no_grad():
        torch.testing.assert_close(slim(image), wanted)


def test_costs_of_heads_and_of_what_they_read(net):
    model = self_attending(net)
    graph = verify(model, trace(model, SHAPE))
    costs = Costs(CostTable.from_graph(graph), SearchSpace.from_graph(graph))
    dense = costs.dense()
    # At 32 places: the conv, 4 matrices, a layer; then the last one at one place.
    assert dense['macs'] == 32 * (3 * 12 + 4 * 144 + 12 * 8) + 8 * 5
    assert graph.governed == 1 and graph.fixed_macs == 0
    one = costs.of(Policy({'b.q_proj': 2}))
    # A head: 3 * 4 rows of 12 weights and a bias, and 12 * 4 columns.
    assert dense['params'] - one['params'] == 12 * 13 + 48
    assert dense['macs'] - one['macs'] == 32 * (12 * 12 + 48)
    both = costs.of(Policy({'b.q_proj': 2, 'a': 9}))
    assert both['macs'] == 32 * (3 * 9 + 4 * 8 * 9 + 9 * 8) + 8 * 5


def cross_attending(net):
    """4 questions of 6 channels to 32 places of 12."""
    def forward(m, x):
        x = m.a(x).flatten(2).transpose(1, 2)
        y = m.q(m.questions).expand(len(x), -1, -1)
        return m.d((y + m.b(y, x, x)[0]).mean(1))

    return net(forward, a=nn.Conv2d(3, 12, 1), questions=torch.randn(1, 4, 3),
               q=nn.Linear(3, 6), d=nn.Linear(6, 5), b=drawn(nn.MultiheadAttention(
                   6, 3, kdim=12, vdim=12, batch_first=True)))


def test_an_attention_to_something_else(net):
    model = cross_attending(net)
    graph = verify(model, trace(model, SHAPE))
    assert {u.name: u.width for u in graph.units} == {'a': 12, 'q': 6, 'b.q_proj': 3}
    costs = Costs(CostTable.from_graph(graph), SearchSpace.from_graph(graph))
    # Keys and values at 32 places, questions and results at 4, each of 2 heads of 2.
    macs = 32 * (3 * 9 + 2 * 9 * 4) + 4 * (3 * 5 + 2 * 5 * 4) + 5 * 5
    policy = Policy({'a': 9, 'q': 5, 'b.q_proj': 2})
    assert costs.of(policy)['macs'] == macs
    slim = materialise(model, graph, policy)
    assert slim.state_dict()['b.k_proj_weight'].shape == (4, 9)
    with torch.no_grad():
        assert slim(torch.randn(2, *SHAPE)).shape == (2, 5)


def test_a_mask_of_every_head_loses_those_of_removed_heads(net):
    """Code around it makes a mask for as many heads as there were."""
    mask = torch.randn(2, 3, 32, 32)

    def forward(m, x):
        x = m.a(x).flatten(2).transpose(1, 2)
        own = mask[:len(x)].flatten(0, 1)
        return m.d(m.b(x, x, x, attn_mask=own)[0].mean(1))

    model = net(forward, a=nn.Conv2d(3, 12, 1), d=nn.Linear(12, 5), b=drawn(
        nn.MultiheadAttention(12, 3, batch_first=True)))
    mutator = ChannelMutator(divisor=1)
    report = check_network(model, SHAPE, mutator=mutator)  # sorts and removes
    assert not report.left_out
    assert report.permuted < 1e-5 and max(report.zeroed, report.materialised) < 1e-4
    heads = mutator.order['b.q_proj']
    assert model.b.head_index.tolist() == heads.tolist() != [0, 1, 2]
    policy = Policy({'b.q_proj': 2})
    with mutator.acting(policy):
        acting = outputs(model, SHAPE)
    slim = mutator.materialise(policy).eval()
    assert slim.b.head_index.tolist() == sorted(heads[:2].tolist())
    assert error(outputs(slim, SHAPE), acting) < 1e-5


def encoding(net):
    """An encoder of torch, whose layers have fused operators in evaluation mode."""
    def forward(m, x):
        x = m.a(x).flatten(2).transpose(1, 2)
        padded = torch.zeros(x.shape[:2], dtype=torch.bool)
        padded[:, -3:] = True
        return m.d(m.b(x, src_key_padding_mask=padded)[:, :-3].mean(1))

    layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True)
    return net(forward, a=nn.Conv2d(3, 16, 1), d=nn.Linear(16, 5),
               b=nn.TransformerEncoder(layer, 2)).eval()


def test_an_encoder_of_torch(net):
    model, image = encoding(net), torch.randn(2, *SHAPE)
    with torch.no_grad():
        wanted = model(image)
        open_attentions(model)
        torch.testing.assert_close(model(image), wanted, rtol=1e-5, atol=1e-5)
    mutator = ChannelMutator(divisor=1)
    report = check_network(model, SHAPE, mutator=mutator)
    assert {u.name for u in mutator.graph.units} == {
        'a', *(f'b.layers.{i}.{name}' for i in (0, 1)
               for name in ('self_attn.q_proj', 'linear1'))}
    assert (report.left_out, report.governed) == (0, 1)
    assert (report.macs, report.params) == (report.true_macs, report.true_params)
    assert report.permuted < 1e-5 and max(report.zeroed, report.materialised) < 1e-4


def saved(model, graph, policy, path, channels=None):
    PolicyFile(policy, graph.fingerprint, graph.input_shape, channels or {}).save(path)
    return PolicyFile.load(path)


def test_both_checkpoints_of_a_policy_file(net, tmp_path):
    model = self_attending(net)
    graph = trace(model, SHAPE)
    policy, kept = Policy({'b.q_proj': 2, 'a': 9}), {'b.q_proj': np.array([0, 2])}
    file = saved(model, graph, policy, tmp_path / 'policy.json', kept)
    slim = materialise(model, graph, policy, kept)
    for state in (slim.state_dict(), model.state_dict()):
        again = rebuild(self_attending(net), file)
        again.load_state_dict({k: torch.zeros_like(v) for k, v in state.items()})
        again.load_state_dict(state)
        assert all(map(torch.equal, again.parameters(), slim.parameters()))


def test_a_policy_file_from_before_heads_were_units(net, tmp_path):
    """Its model was never opened; units that it does not name are dense."""
    before = fingerprint(self_attending(net))
    model = self_attending(net)
    graph = trace(model, SHAPE)
    assert graph.fingerprint == before
    file = saved(model, graph, Policy({'c': 3}), tmp_path / 'policy.json')
    slim = rebuild(self_attending(net), file)
    assert slim.b.num_heads == 3 and slim.c.out_features == 3
    keys = slim.state_dict().keys()
    assert keys == self_attending(net).state_dict().keys()


@pytest.mark.parametrize('kind', ['l1', 'l2', 'taylor', 'obs'])
def test_the_least_head_goes_first(net, kind):
    model, images = self_attending(net), torch.randn(16, *SHAPE)
    graph = trace(model, SHAPE)
    with torch.no_grad():  # the middle head says and asks next to nothing
        for layer in (model.b.q_proj, model.b.k_proj, model.b.v_proj):
            layer.weight[4:8] *= 1e-3
            layer.bias[4:8] *= 1e-3
    calibration = Calibration(
        (Batch(images, []),), losses=lambda: [lambda: model(images).square().mean()])
    scores = channel_scores(model, graph, kind, calibration).summed()
    assert scores['b.q_proj'].argmin() == 1


def test_a_repaired_network_is_nearer_to_the_dense_one(net):
    patterns = torch.randn(6, *SHAPE)
    images = torch.einsum('np,pchw->nchw', torch.randn(48, 6), patterns)
    distance = {}
    for repaired in (False, True):
        torch.manual_seed(0)
        model = self_attending(net)
        with torch.no_grad():
            wanted = model(images)
        mutator = JointMutator.from_config(dict(
            channel=dict(divisor=1, importance='obs'),
            **(dict(reconstruct={}) if repaired else {})))
        mutator.prepare(model, verify(model, trace(model, SHAPE)),
                        Calibration(tuple(Batch(x, []) for x in images.split(8))))
        slim = mutator.materialise(Policy({'b.q_proj': 2, 'a': 10})).eval()
        with torch.no_grad():
            distance[repaired] = F.mse_loss(slim(images), wanted).item()
    assert distance[True] < 0.5 * distance[False]
