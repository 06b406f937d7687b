"""A unit that is wrong is found, named and left out; the model stays as it was."""

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmpretrain.models.utils import LayerNorm2d
from torch import nn

from mmcompress.errors import TraceError
from mmcompress.graph import trace, verify
from mmcompress.graph.verify import compare, difference, lively, peak_error, zeroed
from mmcompress.policy import IN, OUT, ChannelUnit, ModelGraph, Policy
from mmcompress.surgery.precision import in_float64
from mmcompress.surgery.selection import Selection, axis_size, bare_parameter
from mmcompress.testing import ToyNetwork, toy_graph


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """What is logged at WARNING."""
    seen: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: seen.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield seen
    logger.removeHandler(handler)


def with_unit(graph: ModelGraph, name: str, change) -> ModelGraph:
    """The graph with the members of one unit changed."""
    return replace(graph, units=tuple(
        ChannelUnit(u.name, tuple(change(u.members)), u.granularity)
        if u.name == name else u for u in graph.units))


@pytest.fixture
def model() -> ToyNetwork:
    return ToyNetwork()


@pytest.fixture
def graph(model) -> ModelGraph:
    return trace(model, (3, 16, 16))


def moved(members):
    """The merge layer reads the channels one place further than they are."""
    return [replace(m, positions=m.positions + 1) if m.layer == 'merge' else m
            for m in members]


def test_every_unit_of_the_toy_passes(model, graph, warnings):
    assert verify(model, graph).units == graph.units
    assert not warnings


@pytest.mark.parametrize('unit, change, reason', [
    ('point', moved, 'differs by'),
    ('point', lambda members: [m for m in members if m.side == OUT],
     'the sliced network does not run: RuntimeError'),
    ('stem', lambda members: [m for m in members if m.layer != 'depth_bn'],
     'the sliced network does not run: RuntimeError'),
    ('head', lambda members: [
        replace(m, positions=m.positions.ravel().reshape(4, 32).T)
        if m.layer == 'fc' else m for m in members], 'output 2 differs by'),
], ids=['misplaced', 'no consumer', 'no norm', 'flattened wrongly'])
def test_a_broken_unit_is_left_out_with_its_name_and_reason(
        model, graph, warnings, unit, change, reason):
    checked = verify(model, with_unit(graph, unit, change))
    assert [u.name for u in checked.units] == [
        u.name for u in graph.units if u.name != unit]
    assert reason in checked.excluded[unit]
    warning, = warnings
    width = graph.unit(unit).width
    assert warning.startswith(f'Unit {unit!r} ({width} channels) is left out: ')
    assert reason in warning


def test_channels_confused_where_both_stay_are_found(model, graph, warnings):
    # Which channels verify keeps of a unit is its own affair: try all pairs. Without
    # the other order, about half of them go unseen: both stay or both are removed.
    width = graph.unit('point').width
    for i in range(1, width):
        swapped = np.arange(width)
        swapped[[0, i]] = i, 0
        checked = verify(model, with_unit(graph, 'point', lambda members, s=swapped: [
            replace(m, positions=m.positions[s]) if m.layer == 'merge' else m
            for m in members]))
        assert 'point' in checked.excluded
    reasons = [w for w in warnings if 'with its channels reordered' in w]
    assert 0 < len(reasons) < len(warnings)


def test_if_all_fail_it_is_an_error(model, graph, warnings):
    alone = graph.without({u.name: '' for u in graph.units if u.name != 'point'})
    with pytest.raises(TraceError, match=(
            r'^None of the 1 units of ToyNetwork passed verification; the first '
            r'failed because: output . differs by')):
        verify(model, with_unit(alone, 'point', moved))
    assert len(warnings) == 1


def test_units_that_fail_only_together_are_an_error(net):
    def forward(m, x):
        if m.a.out_channels < 4 and m.b.out_channels < 4:
            raise RuntimeError('too thin')
        return m.c(m.b(m.a(x)).relu())

    model = net(forward, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(4, 4, 1),
                c=nn.Conv2d(4, 2, 1))
    with pytest.raises(TraceError, match=r'pruned alone fail together: .*too thin'):
        verify(model, trace(model, (3, 8, 8)))


@pytest.mark.parametrize('hide', [
    lambda m: nn.init.zeros_(m.bn.weight), lambda m: nn.init.constant_(m.gamma, 1e-6)],
    ids=['zero-initialised norm', 'layer scale'])
def test_a_branch_that_vanishes_hides_no_mistake(net, hide, warnings):
    def forward(m, x):
        return m.c(m.a(x) + m.gamma * m.bn(m.b(m.inner(x)).relu()))

    model = net(forward, a=nn.Conv2d(3, 4, 1), inner=nn.Conv2d(3, 8, 1),
                b=nn.Conv2d(8, 4, 1), bn=nn.BatchNorm2d(4), c=nn.Conv2d(4, 2, 1),
                gamma=nn.Parameter(torch.ones(4, 1, 1)))
    hide(model)
    # Removing channels 0 ... 3 of inner takes the weights of 7 ... 4 along.
    broken = with_unit(trace(model, (3, 8, 8)), 'inner', lambda members: [
        replace(m, positions=m.positions[::-1]) if m.side == IN else m
        for m in members])
    assert 'differs by' in verify(model, broken).excluded['inner']


def test_lively_puts_everything_back(model):
    model.train()
    model.depth_bn.eval()
    nn.init.zeros_(model.stem_bn.weight)
    nn.init.constant_(model.predict.bias, -4.6)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    attributes = [set(vars(m)) for m in model.modules()]
    modes = [m.training for m in model.modules()]
    with pytest.raises(KeyError), lively(model, (3, 16, 16)):
        assert not any(m.training for m in model.modules())
        assert model.stem_bn.weight.min() > 0.05
        # The prior hides small signals; batch norms take what they see.
        assert model.predict.bias.abs().max() < 1
        assert model.stem_bn.running_mean.abs().max() == 0
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        raise KeyError
    assert [set(vars(m)) for m in model.modules()] == attributes
    assert [m.training for m in model.modules()] == modes
    assert not any(m._forward_pre_hooks for m in model.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_rounding_is_no_mistake(model, graph, warnings):
    # float32 rounds to 1e-7 of a value, float64 to 1e-16.
    assert verify(model, graph, tolerance=1e-10).units == graph.units
    assert not warnings


def test_a_model_that_insists_on_float32_is_judged_in_it(net):
    def forward(m, x):
        return m.c(m.a(x.float()).relu())

    model = net(forward, a=nn.Conv2d(3, 4, 1), c=nn.Conv2d(4, 2, 1))
    assert len(verify(model, trace(model, (3, 8, 8))).units) == 1
    broken = with_unit(trace(model, (3, 8, 8)), 'a', lambda members: [
        replace(m, positions=m.positions[::-1]) if m.side == IN else m
        for m in members])
    with pytest.raises(TraceError, match=r'None of the 1 units .* differs by'):
        verify(model, broken)


def test_in_float64_puts_the_very_tensors_back(model):
    storages = [t.data_ptr() for t in model.state_dict().values()]
    with pytest.raises(KeyError), in_float64(model):
        assert model(torch.rand(1, 3, 16, 16))[0].dtype == torch.float64
        raise KeyError
    assert torch.get_default_dtype() == torch.float32
    assert [t.data_ptr() for t in model.state_dict().values()] == storages


def test_what_eval_mode_derives_is_float32_again(net):
    class Derived(nn.Linear):
        def train(self, mode=True):
            super().train(mode)
            self.double_weight = self.weight * 2
            return self

    model = net(lambda m, x: m.a(x), a=Derived(3, 3)).eval()
    with in_float64(model):
        model.eval()
        assert model.a.double_weight.dtype == torch.float64
    assert model.a.double_weight.dtype == torch.float32


def test_float32_that_is_asked_for_by_name_is_float64_too(net):
    model = net(lambda m, x: m.a(x + torch.arange(3, dtype=torch.float32)),
                a=nn.Linear(3, 3))
    with in_float64(model):
        assert model(torch.rand(1, 3)).dtype == torch.float64


def test_compare_tells_right_from_wrong(model, graph):
    channels = {'point': np.array([0, 3, 7])}
    with torch.no_grad():
        assert compare(model.eval(), Selection(model, graph), channels) == ''
        broken = with_unit(graph, 'point', moved)
        assert 'differs by' in compare(model, Selection(model, broken), channels)
    assert not any('weight' in vars(m) for m in model.modules())


# -- the zeroed reference --------------------------------------------------------
def test_zeroed_layers_see_zeros(net):
    model = net(lambda m, x: m.a(x), a=nn.Conv2d(3, 4, 1))
    x = torch.rand(1, 3, 2, 2)
    masked = x * torch.tensor([1, 0, 1])[:, None, None]
    with zeroed(model, {'a': {IN: np.array([1])}}):
        assert torch.equal(model(x), model.a._conv_forward(
            masked, model.a.weight, model.a.bias))
    assert not model.a._forward_pre_hooks


@pytest.mark.parametrize('norm', [nn.LayerNorm(4), LayerNorm2d(4)])
def test_zeroed_layer_norms_know_only_what_remains(norm):
    torch.manual_seed(0)
    nn.init.normal_(norm.weight)
    model = nn.Sequential(norm)
    x = torch.rand(2, 3, 4) if type(norm) is nn.LayerNorm else torch.rand(2, 4, 3, 3)
    dim = -1 if type(norm) is nn.LayerNorm else 1
    kept = torch.tensor([0, 2, 3])
    small = type(norm)(3)
    small.weight.data = norm.weight.data[kept]
    with zeroed(model, {'0': {OUT: np.array([1])}}):
        out = model(x)
    assert torch.allclose(out.index_select(dim, kept), small(x.index_select(dim, kept)))
    assert out.select(dim, 1).abs().max() == 0
    assert 'forward' not in vars(norm)


# -- how errors are measured -----------------------------------------------------
def test_peak_error():
    # Largest difference 0.3 over the root mean square of (3, 4), sqrt(12.5).
    out, ref = torch.tensor([3.3, 4.0]), torch.tensor([3.0, 4.0])
    assert peak_error(out, ref) == pytest.approx(0.3 / 12.5 ** 0.5)
    assert peak_error(torch.zeros(2), torch.zeros(2)) == 0


@pytest.mark.parametrize('outputs, message', [
    ([torch.ones(2)], '1 outputs instead of 2'),
    ([torch.ones(2), torch.ones(3)], r'output 1 has shape (3,), not (2,)'),
    ([torch.ones(2), torch.tensor([1.0, 1.01])], 'output 1 differs by 1.0e-02 '
                                                 '(allowed 1e-04)'),
    ([torch.ones(2), torch.tensor([1.0, torch.nan])], 'output 1 differs by nan'),
    ([torch.ones(2), torch.tensor([1.0, 1.00005])], ''),
])
def test_difference(outputs, message):
    found = difference(outputs, [torch.ones(2), torch.ones(2)], 1e-4)
    assert found.startswith(message) and bool(found) == bool(message)


def test_whole_numbers_are_not_compared():
    assert difference([torch.tensor([1])], [torch.tensor([2])], 1e-4) == ''


# -- from units to positions -----------------------------------------------------
def test_selection_of_the_toy():
    selection = Selection(ToyNetwork(), toy_graph())
    channels = selection.of_policy(Policy({'point': 22, 'stem': 15, 'head': 31}))
    assert {k: len(v) for k, v in channels.items()} == dict(
        stem=15, reduce=8, point=22, merge=32, head=31)
    removed = selection.removed(channels)
    # Point's channels 22 and 23 come before the 16 of the stem, of which 15 goes.
    assert removed['merge'][IN].tolist() == [22, 23, 39]
    assert removed['fc'][IN].tolist() == [124, 125, 126, 127]
    assert removed['depth'].keys() == {IN, OUT} and 'reduce_bn' not in removed
    kept = selection.kept(channels)
    assert kept['merge'][IN].tolist() == [*range(22), *range(24, 39)]
    assert kept.keys() == removed.keys()
    assert selection.removed({'stem': np.arange(16)}) == {}


def test_axis_sizes_and_bare_parameters(net):
    model = net(lambda m, x: x, sub=net(
        lambda m, x: x, gamma=nn.Parameter(torch.ones(1, 5, 1))),
        a=nn.Conv2d(3, 4, 1), t=nn.ConvTranspose2d(3, 4, 1), fc=nn.Linear(3, 4),
        bn=nn.BatchNorm2d(4), gn=nn.GroupNorm(2, 4), ln=nn.LayerNorm(4),
        prelu=nn.PReLU(4), tau=nn.Parameter(torch.ones(7)))
    modules = dict(model.named_modules())
    for layer in ('a', 't', 'fc', 'bn', 'gn', 'ln', 'prelu'):
        assert axis_size(modules, layer, OUT) == 4
    for layer in ('a', 't', 'fc'):
        assert axis_size(modules, layer, IN) == 3
    assert axis_size(modules, 'sub.gamma@1', OUT) == 5
    assert bare_parameter(modules, 'sub.gamma@1') == (model.sub, 'gamma', 1)
    assert bare_parameter(modules, 'tau@0') == (model, 'tau', 0)


def test_bare_parameters_are_sliced(net):
    model = net(lambda m, x: m.b(m.a(x) * m.gamma), a=nn.Conv2d(3, 4, 1),
                gamma=nn.Parameter(torch.arange(4.0).view(1, 4, 1, 1)),
                b=nn.Conv2d(4, 2, 1))
    graph = trace(model, (3, 4, 4))
    values = dict(Selection(model, graph).values({'a': np.array([0, 2])}))
    assert values[model]['gamma'].shape == (1, 2, 1, 1)
    assert values[model]['gamma'].flatten().tolist() == [0, 2]
