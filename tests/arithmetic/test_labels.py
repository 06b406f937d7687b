"""Which channels are tied: every kind of layer and operator, units by hand."""

import numpy as np
import pytest
import torch
from mmcv.cnn import Scale
from mmcv.ops import ModulatedDeformConv2dPack
from mmpretrain.models.utils import LayerNorm2d
from torch import nn
from torch.nn import functional as F

from mmcompress.errors import TraceError
from mmcompress.graph import trace, verify
from mmcompress.layers.pad import ChannelPad

SHAPE = (3, 8, 8)


def conv(into: int, out: int, kernel: int = 1, **kwargs) -> nn.Conv2d:
    return nn.Conv2d(into, out, kernel, padding=kernel // 2, **kwargs)


def units_of(model: nn.Module, verified: bool = True) -> dict:
    """By unit and member, the positions; a verification that leaves none out."""
    graph = trace(model, SHAPE)
    assert not verified or verify(model, graph).units == graph.units
    for unit in graph.units:
        # Real channels of one unit channel, as its first producer has them.
        maker = next(m for m in unit.producers if m.layer == unit.name.split('#')[0])
        assert unit.granularity == maker.count
    return {u.name: {f'{m.layer}.{m.side}': m.positions.tolist() for m in u.members}
            for u in graph.units}


def span(start: int, stop: int, step: int = 1) -> list[list[int]]:
    """One position a channel."""
    return [[i] for i in range(start, stop, step)]


def blocks(width: int, count: int, start: int = 0) -> list[list[int]]:
    """``count`` consecutive positions a channel."""
    return (start + np.arange(width * count).reshape(width, count)).tolist()


# -- layers ----------------------------------------------------------------------
def test_conv_norm_activation(net):
    model = net(lambda m, x: m.b(F.silu(m.bn(m.a(x)))), a=conv(3, 4),
                bn=nn.BatchNorm2d(4), b=conv(4, 2))
    assert units_of(model) == {
        'a': {'a.out': span(0, 4), 'bn.out': span(0, 4), 'b.in': span(0, 4)}}


def test_residual_sum_ties_both_producers(net):
    def forward(m, x):
        x = m.a(x)
        return m.c(x + m.b(x).relu())

    model = net(forward, a=conv(3, 4), b=conv(4, 4, 3), c=conv(4, 2))
    assert units_of(model) == {'a': {
        k: span(0, 4) for k in ('a.out', 'b.in', 'b.out', 'c.in')}}


def test_depthwise_passes_channels_through(net):
    model = net(lambda m, x: m.b(m.d(m.a(x))), a=conv(3, 4),
                d=conv(4, 4, 3, groups=4), b=conv(4, 2))
    assert units_of(model) == {'a': {
        k: span(0, 4) for k in ('a.out', 'd.in', 'd.out', 'b.in')}}


def test_halves_follow_the_width_and_fixed_sizes_stay(net):
    """``chunk`` asks the tensor for its size, sizes in numbers do not."""
    def halves(m, x):
        left, right = m.a(x).chunk(2, 1)
        return m.b(left * right)

    def parts(m, x):
        left, right = m.a(x).split([1, 3], 1)
        return m.b(m.c(left) * right)

    layers = dict(a=conv(3, 4), b=conv(2, 2))
    assert units_of(net(halves, **layers)) == {'a': {
        'a.out': [[0, 2], [1, 3]], 'b.in': span(0, 2)}}
    model = net(parts, a=conv(3, 4), b=conv(3, 4), c=conv(1, 3))
    with pytest.raises(TraceError, match='no prunable unit'):
        trace(model, SHAPE)


def test_depthwise_with_a_multiplier(net):
    model = net(lambda m, x: m.b(m.d(m.a(x))), a=conv(3, 4),
                d=conv(4, 8, 3, groups=4), b=conv(8, 2))
    assert units_of(model) == {'a': {
        'a.out': span(0, 4), 'd.in': span(0, 4), 'd.out': blocks(4, 2),
        'b.in': blocks(4, 2)}}


def test_grouped_conv_loses_whole_groups(net):
    model = net(lambda m, x: m.b(m.g(m.a(x))), a=conv(3, 8),
                g=conv(8, 4, groups=2), b=conv(4, 2))
    assert units_of(model) == {'a': {
        'a.out': blocks(2, 4), 'g.in': blocks(2, 4), 'g.out': blocks(2, 2),
        'b.in': blocks(2, 2)}}


@pytest.mark.parametrize('groups', [1, 4])
def test_transposed_conv(net, groups):
    model = net(
        lambda m, x: m.b(m.t(m.a(x))), a=conv(3, 4),
        t=nn.ConvTranspose2d(4, 4, 2, 2, groups=groups), b=conv(4, 2))
    tied = {k: span(0, 4) for k in ('a.out', 't.in')}
    after = {k: span(0, 4) for k in ('t.out', 'b.in')}
    assert units_of(model) == (
        {'a': tied, 't': after} if groups == 1 else {'a': tied | after})


def test_group_norm_ties_the_channels_of_a_group(net):
    model = net(lambda m, x: m.b(m.gn(m.a(x))), a=conv(3, 8), gn=nn.GroupNorm(4, 8),
                b=conv(8, 2))
    assert units_of(model) == {'a': {
        k: blocks(4, 2) for k in ('a.out', 'gn.out', 'b.in')}}


@pytest.mark.parametrize('norm', [
    nn.InstanceNorm2d(4, affine=True), nn.SyncBatchNorm(4), LayerNorm2d(4),
    nn.BatchNorm2d(4, affine=False), nn.PReLU(4)], ids=lambda m: type(m).__name__)
def test_norms_hold_one_position_a_channel(net, norm):
    model = net(lambda m, x: m.b(m.n(m.a(x))), a=conv(3, 4), n=norm, b=conv(4, 2))
    assert units_of(model) == {'a': {
        k: span(0, 4) for k in ('a.out', 'n.out', 'b.in')}}


@pytest.mark.parametrize('norm', [
    nn.InstanceNorm2d(4), nn.PReLU(), Scale(2.0), nn.Dropout()],
    ids=lambda m: type(m).__name__)
def test_what_owns_no_channel_is_no_member(net, norm):
    model = net(lambda m, x: m.b(m.n(m.a(x))), a=conv(3, 4), n=norm, b=conv(4, 2))
    assert units_of(model) == {'a': {k: span(0, 4) for k in ('a.out', 'b.in')}}


def test_tokens_linear_and_layer_norm(net):
    model = net(
        lambda m, x: m.c(m.norm(m.b(m.a(x).flatten(2).transpose(1, 2)))),
        a=conv(3, 4), b=nn.Linear(4, 6), norm=nn.LayerNorm(6), c=nn.Linear(6, 2))
    assert units_of(model) == {
        'a': {'a.out': span(0, 4), 'b.in': span(0, 4)},
        'b': {'b.out': span(0, 6), 'norm.out': span(0, 6), 'c.in': span(0, 6)}}


def test_channel_pad_ties_what_it_copies(net):
    model = net(lambda m, x: m.c(m.b(m.a(x)) + m.pad(m.a(x))), a=conv(3, 2),
                b=conv(2, 4), pad=ChannelPad(2, 4), c=conv(4, 2))
    # Channels 1 and 2 of the sum are copies of a; 0 and 3 come from b alone.
    assert units_of(model) == {
        'a': {'a.out': span(0, 2), 'b.in': span(0, 2), 'b.out': span(1, 3),
              'pad.in': span(0, 2), 'pad.out': span(1, 3), 'c.in': span(1, 3)},
        'b': {'b.out': span(0, 4, 3), 'pad.out': span(0, 4, 3),
              'c.in': span(0, 4, 3)}}


def test_deformable_conv(net):
    model = net(lambda m, x: m.b(m.d(m.a(x)).relu()), a=conv(3, 4),
                d=ModulatedDeformConv2dPack(4, 6, 3, padding=1), b=conv(6, 2))
    assert units_of(model) == {
        'a': {k: span(0, 4) for k in ('a.out', 'd.in', 'd.conv_offset.in')},
        'd': {k: span(0, 6) for k in ('d.out', 'b.in')}}


def test_a_shared_conv_ties_its_inputs(net):
    model = net(lambda m, x: (m.s(m.a(x)), m.s(m.b(x))), a=conv(3, 4), b=conv(3, 4),
                s=conv(4, 2))
    assert units_of(model) == {'a': {
        k: span(0, 4) for k in ('a.out', 'b.out', 's.in')}}


@pytest.mark.parametrize('shape', [(4, 1, 1), (1, 4, 1, 1)])
def test_a_bare_vector_is_a_member(net, shape):
    model = net(lambda m, x: m.b(m.a(x) * m.gamma), a=conv(3, 4),
                gamma=nn.Parameter(torch.rand(shape)), b=conv(4, 2))
    assert units_of(model) == {'a': {
        'a.out': span(0, 4), f'gamma@{len(shape) - 3}.out': span(0, 4),
        'b.in': span(0, 4)}}


# -- operators -------------------------------------------------------------------
def test_concatenation_offsets(net):
    model = net(lambda m, x: m.c(torch.cat([m.a(x), m.b(x)], 1)), a=conv(3, 4),
                b=conv(3, 2), c=conv(6, 2))
    assert units_of(model) == {
        'a': {'a.out': span(0, 4), 'c.in': span(0, 4)},
        'b': {'b.out': span(0, 2), 'c.in': span(4, 6)}}


def test_concatenation_with_itself(net):
    model = net(lambda m, x: m.b(torch.cat([m.a(x), m.a(x)], 1)), a=conv(3, 2),
                b=conv(4, 2))
    assert units_of(model) == {
        'a': {'a.out': span(0, 2), 'b.in': [[0, 2], [1, 3]]}}


@pytest.mark.parametrize('split', [
    lambda x: x.chunk(2, 1),
    lambda x: (x[:, :2], x[:, 2:]),
], ids=['chunk', 'slice'])
def test_halves_are_units_of_their_own(net, split):
    def forward(m, x):
        first, second = split(m.a(x))
        return m.b(first), m.c(second)

    model = net(forward, a=conv(3, 4), b=conv(2, 2), c=conv(2, 2))
    # Chunks of another size than traced cannot be had; verification says so.
    assert units_of(model, verified=False) == {
        'a': {'a.out': span(0, 2), 'b.in': span(0, 2)},
        'a#2': {'a.out': span(2, 4), 'c.in': span(0, 2)}}


def test_a_gate_ties_the_halves(net):
    def forward(m, x):
        value, gate = m.a(x).chunk(2, 1)
        return m.b(value * gate.sigmoid())

    model = net(forward, a=conv(3, 8), b=conv(4, 2))
    assert units_of(model) == {'a': {
        'a.out': [[i, i + 4] for i in range(4)], 'b.in': span(0, 4)}}


def test_channel_shuffle(net):
    def forward(m, x):
        x = m.a(x)
        n, c, h, w = x.shape
        return m.b(x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))

    model = net(forward, a=conv(3, 6), b=conv(6, 2))
    # (2, 3) becomes (3, 2): channel 3 g + k comes to place 2 k + g.
    assert units_of(model, verified=False) == {'a': {
        'a.out': span(0, 6), 'b.in': [[0], [2], [4], [1], [3], [5]]}}


def test_nn_channel_shuffle(net):
    model = net(lambda m, x: m.b(m.s(m.a(x))), a=conv(3, 6), s=nn.ChannelShuffle(2),
                b=conv(6, 2))
    unit = units_of(model, verified=False)['a']
    assert unit['b.in'] == [[0], [2], [4], [1], [3], [5]]


def test_space_to_depth_by_slices(net):
    def forward(m, x):
        x = m.a(x)
        return m.b(torch.cat(
            [x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1))

    model = net(forward, a=conv(3, 2), b=conv(8, 2))
    assert units_of(model) == {'a': {
        'a.out': span(0, 2), 'b.in': [[0, 2, 4, 6], [1, 3, 5, 7]]}}


def test_pixel_unshuffle_and_shuffle(net):
    model = net(
        lambda m, x: m.c(F.pixel_shuffle(m.b(F.pixel_unshuffle(m.a(x), 2)), 2)),
        a=conv(3, 2), b=conv(8, 8), c=conv(2, 2))
    # Unshuffling, channel j feeds 4 j ... 4 j + 3; shuffling, so many become one.
    assert units_of(model) == {
        'a': {'a.out': span(0, 2), 'b.in': blocks(2, 4)},
        'b': {'b.out': blocks(2, 4), 'c.in': span(0, 2)}}


def test_flatten_before_a_linear_layer(net):
    model = net(lambda m, x: m.fc(F.adaptive_avg_pool2d(m.a(x), 2).flatten(1)),
                a=conv(3, 3), fc=nn.Linear(12, 2))
    assert units_of(model) == {'a': {'a.out': span(0, 3), 'fc.in': blocks(3, 4)}}


@pytest.mark.parametrize('squeeze', [
    lambda x: x.mean((2, 3), keepdim=True), lambda x: F.adaptive_avg_pool2d(x, 1),
    lambda x: x.flatten(2).mean(-1)[..., None, None],
    lambda x: F.max_pool2d(x, 8)], ids=['mean', 'pool', 'flat', 'max'])
def test_squeeze_and_excite(net, squeeze):
    def forward(m, x):
        x = m.a(x)
        return m.b(x * m.expand(m.reduce(squeeze(x)).relu()).sigmoid())

    model = net(forward, a=conv(3, 4), reduce=conv(4, 2), expand=conv(2, 4),
                b=conv(4, 2))
    assert units_of(model) == {
        'a': {k: span(0, 4) for k in ('a.out', 'reduce.in', 'expand.out', 'b.in')},
        'reduce': {'reduce.out': span(0, 2), 'expand.in': span(0, 2)}}


@pytest.mark.parametrize('operator', [
    lambda x: F.interpolate(x, scale_factor=2),
    lambda x: F.interpolate(x, scale_factor=2, mode='bilinear'),
    lambda x: F.max_pool2d(x, 3, 1, 1),
    lambda x: F.pad(x, (1, 2, 1, 2)),
    lambda x: x.softmax(2),
    lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
    lambda x: x.roll(1, 3).flip(2),
    lambda x: x.clone().add_(1).clamp(min=0.5),
    lambda x: x - x.amax((2, 3), keepdim=True),
    lambda x: x * torch.full((1, 1, 1, 1), 2.0),
    lambda x: x - x.std((2, 3), keepdim=True),
    lambda x: F.normalize(x, dim=3),
    lambda x: torch.stack([x, x], 0)[1],
    lambda x: x.repeat(1, 1, 2, 1),
], ids=range(14))
def test_what_leaves_channels_alone(net, operator):
    model = net(lambda m, x: m.b(operator(m.a(x))), a=conv(3, 4), b=conv(4, 2))
    assert units_of(model) == {'a': {'a.out': span(0, 4), 'b.in': span(0, 4)}}


@pytest.mark.parametrize('function', [
    F.celu, F.elu, F.hardsigmoid, F.hardswish, F.hardtanh, F.leaky_relu, F.mish, F.relu,
    F.relu6, F.selu, F.silu, lambda x, inplace: F.threshold(x, 0.1, 0, inplace)])
@pytest.mark.parametrize('inplace', [False, True])
def test_activations_leave_channels_alone(net, function, inplace):
    model = net(lambda m, x: m.b(function(m.a(x), inplace=inplace)),
                a=conv(3, 4), b=conv(4, 2))
    assert units_of(model) == {'a': {'a.out': span(0, 4), 'b.in': span(0, 4)}}


# -- what pins -------------------------------------------------------------------
@pytest.mark.parametrize('operator', [
    lambda m, x: x.sort(1)[0],
    lambda m, x: x.cumsum(1),
    lambda m, x: x.softmax(1),
    lambda m, x: x - x.mean(1, keepdim=True),
    lambda m, x: x + x.mean(1)[:, None],
    lambda m, x: F.normalize(x, dim=1),
    lambda m, x: x / x.norm(dim=1)[:, None],
    lambda m, x: x / torch.linalg.vector_norm(x, 2, 1)[:, None],
    lambda m, x: x / x.var(1)[:, None],
    lambda m, x: x * m.constant,
    lambda m, x: x * m.square[0, :, None, None],
    lambda m, x: torch.einsum('nchw,cd->ndhw', x, m.square),
    lambda m, x: F.conv2d(x, m.square[..., None, None]),
    lambda m, x: x + torch.zeros_like(x).copy_(x),
    lambda m, x: F.pad(x, (0, 0, 0, 0, 1, 1))[:, 1:-1],
    lambda m, x: x + (x.flatten(2).mT @ x.flatten(2)).mean(),
    lambda m, x: F.local_response_norm(x, 3),
    lambda m, x: x.view(1, 2, 2, 8, 8).mean(2).repeat(1, 2, 1, 1),
    lambda m, x: x[:, x.mean((0, 2, 3)).argsort()],
], ids=range(19))
def test_what_mixes_channels_pins_them(net, operator):
    model = net(
        lambda m, x: m.b(operator(m, m.a(x))), a=conv(3, 4), b=conv(4, 2),
        constant=torch.rand(1, 4, 1, 1), square=nn.Parameter(torch.rand(4, 4)))
    with pytest.raises(TraceError, match='no prunable unit'):
        trace(model, SHAPE)


def test_an_unknown_operator_is_named(net):
    model = net(lambda m, x: m.b(m.a(x).sort(1)[0]), a=conv(3, 4), b=conv(4, 2))
    with pytest.raises(TraceError, match=r"^Net has no prunable unit.*'sort': 1"):
        trace(model, SHAPE)


def test_coordinates_are_pinned(net):
    def forward(m, x):
        grid = m.offset(x).permute(0, 2, 3, 1)
        return m.c(F.grid_sample(m.a(x), grid, align_corners=False)), m.b(m.offset(x))

    model = net(forward, offset=conv(3, 2), a=conv(3, 4), b=conv(2, 3), c=conv(4, 2))
    assert units_of(model) == {'a': {'a.out': span(0, 4), 'c.in': span(0, 4)}}


def test_inputs_and_outputs_stay(net):
    model = net(lambda m, x: (m.a(x), m.c(m.b(x))), a=conv(3, 4), b=conv(3, 4),
                c=conv(4, 4))
    assert units_of(model) == {'b': {'b.out': span(0, 4), 'c.in': span(0, 4)}}


def test_an_output_pins_only_what_it_shows(net):
    def forward(m, x):
        x = m.a(x)
        return x[:, :2], m.b(x)

    model = net(forward, a=conv(3, 4), b=conv(4, 2))
    assert units_of(model) == {'a': {'a.out': span(2, 4), 'b.in': span(2, 4)}}


def test_shared_and_computed_weights_stay(net):
    model = net(lambda m, x: m.d(m.c(m.b(m.a(x)))), a=conv(3, 4), b=conv(4, 4),
                c=conv(4, 4), d=conv(4, 2))
    model.c.weight = model.b.weight
    with pytest.raises(TraceError, match='no prunable unit'):
        trace(model, SHAPE)


def test_parametrised_weights_stay(net):
    model = net(lambda m, x: m.c(m.b(m.a(x))), a=conv(3, 4), b=conv(4, 4),
                c=conv(4, 2))
    nn.utils.parametrizations.weight_norm(model.b)
    with pytest.raises(TraceError, match='no prunable unit'):
        trace(model, SHAPE)


class OwnAttention(nn.MultiheadAttention):
    """Of a subclass nothing is known: it may compute something else."""


def test_attention_of_an_unknown_class_is_left_alone(net):
    def forward(m, x):
        x = m.a(x).flatten(2).transpose(1, 2)
        return m.c(m.b(x + m.attention(x, x, x, need_weights=False)[0]).relu())

    model = net(forward, a=conv(3, 4), b=nn.Linear(4, 6), c=nn.Linear(6, 2),
                attention=OwnAttention(4, 2, batch_first=True))
    assert units_of(model) == {'b': {'b.out': span(0, 6), 'c.in': span(0, 6)}}


# -- what is left out ------------------------------------------------------------
def test_dead_ends_and_single_channels_are_excluded(net):
    def forward(m, x):
        m.dead(x)
        return m.c(m.b(m.one(m.a(x)).relu()))

    model = net(forward, dead=conv(3, 4), a=conv(3, 4), one=nn.GroupNorm(1, 4),
                b=conv(4, 4), c=conv(4, 2))
    graph = trace(model, SHAPE)
    assert [u.name for u in graph.units] == ['b']
    assert graph.excluded == {
        'dead': 'no layer consumes its channels',
        'a': 'all its channels are tied together'}
