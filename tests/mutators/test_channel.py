"""ChannelMutator keeps the contract; widths are nested, channels are sorted."""

import numpy as np
import pytest
import torch
from mmengine.runner import set_random_seed
from torch import nn

from mmcompress.graph import trace
from mmcompress.graph.verify import zeroed
from mmcompress.mutators import Calibration, ChannelMutator, importance
from mmcompress.policy import Policy
from mmcompress.surgery.permute import permute
from mmcompress.testing import MutatorContract, ToyNetwork, toy_graph

WIDTHS = {'stem': 6, 'reduce': 3, 'point': 10, 'merge': 12, 'head': 7}


class TestChannelMutator(MutatorContract):
    mutator = ChannelMutator
    options = dict(divisor=2)
    unknown = (
        Policy({'nope': 1}), Policy({'stem': 0}), Policy({'stem': 17}),
        Policy({'stem': -1}))


class TestChannelMutatorByTaylor(MutatorContract):
    mutator = ChannelMutator
    options = dict(importance='taylor', divisor=1, min_ratio=0.3)

    def prepare(self, mutator, model):
        image = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        mutator.prepare(model, toy_graph(), Calibration(losses=lambda: [
            lambda: sum(out.square().mean() for out in model(image))]))


@pytest.fixture
def prepared() -> tuple[ChannelMutator, nn.Module]:
    model, mutator = ToyNetwork().eval().double(), ChannelMutator(divisor=1)
    mutator.prepare(model, toy_graph())
    return mutator, model


def image() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 16, 16, generator=generator, dtype=torch.float64)


def test_acting_equals_zeroed_channels(prepared):
    mutator, model = prepared
    policy = Policy(WIDTHS)
    selection = mutator.selection
    with torch.no_grad():
        with mutator.acting(policy):
            acting = model(image())
        with zeroed(model, selection.removed(selection.of_policy(policy))):
            reference = model(image())
    for out, ref in zip(acting, reference):
        assert torch.allclose(out, ref, rtol=1e-9, atol=1e-9)


def test_any_permutation_changes_no_output():
    model, graph = ToyNetwork().eval().double(), toy_graph()
    wanted = model(image())
    before = model.merge.weight.clone()
    rng = np.random.default_rng(0)
    order = {u.name: rng.permutation(u.width) for u in graph.units}
    permute(model, graph, order)
    for out, ref in zip(model(image()), wanted):
        assert torch.allclose(out, ref, rtol=1e-9, atol=1e-9)
    into = np.r_[order['point'], 24 + order['stem']]
    assert torch.equal(model.merge.weight, before[order['merge']][:, into])
    permute(model, graph, {k: np.argsort(v) for k, v in order.items()})
    assert torch.equal(model.merge.weight, before)


def test_permuting_grouped_norms_and_vectors(tmp_path):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(3, 8, 1)
            self.gn = nn.GroupNorm(4, 8)
            self.groups = nn.Conv2d(8, 16, 3, groups=4, padding=1)
            self.gamma = nn.Parameter(torch.rand(16, 1, 1))
            self.b = nn.ConvTranspose2d(16, 6, 2)
            self.c = nn.Conv2d(6, 2, 1)

        def forward(self, x):
            return self.c(self.b(self.groups(self.gn(self.a(x))) * self.gamma))

    set_random_seed(0)
    model = Model().double()
    nn.init.uniform_(model.gn.weight)
    graph = trace(model, (3, 4, 4))
    wanted = model(image())
    rng = np.random.default_rng(0)
    permute(model, graph, {u.name: rng.permutation(u.width) for u in graph.units})
    assert [u.width for u in graph.units] == [4, 6]
    assert torch.allclose(model(image()), wanted, rtol=1e-9)


def test_channels_are_sorted_by_importance(prepared):
    mutator, model = prepared
    for score in importance(model, mutator.graph, 'l2').values():
        assert (np.diff(score) <= 1e-12).all()


def test_equal_scores_keep_their_order():
    model = ToyNetwork()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.1)
    mutator = ChannelMutator()
    mutator.prepare(model, toy_graph())
    assert all(np.array_equal(o, np.arange(len(o))) for o in mutator.order.values())


def test_widths_are_nested_views(prepared):
    mutator, model = prepared
    seen = []
    for width in (4, 9, 16):
        with mutator.acting(Policy({'stem': width})):
            seen.append(model.stem.weight)
            assert model.stem.weight.data_ptr() == \
                model._modules['stem']._parameters['weight'].data_ptr()
    small, middle, dense = seen
    assert torch.equal(small, middle[:4]) and torch.equal(middle, dense[:9])


def test_channels_are_numbered_as_in_the_checkpoint():
    dense = ToyNetwork()
    scores = importance(dense, toy_graph(), 'l1')
    mutator = ChannelMutator(importance='l1')
    mutator.prepare(ToyNetwork(), toy_graph())
    channels = mutator.channels(Policy(WIDTHS | {'head': 32}))
    assert channels.keys() == WIDTHS.keys() - {'head'}
    for name, kept in channels.items():
        best = np.argsort(-scores[name])[:WIDTHS[name]]
        assert kept.tolist() == sorted(best.tolist())


def test_slim_weights_are_rows_of_the_checkpoint():
    dense, mutator = ToyNetwork(), ChannelMutator()
    mutator.prepare(ToyNetwork(), toy_graph())
    policy = Policy(WIDTHS)
    channels, slim = mutator.channels(policy), mutator.materialise(policy)
    into = np.r_[channels['point'], 24 + channels['stem']]
    assert torch.equal(
        slim.merge.weight, dense.merge.weight[channels['merge']][:, into])
    assert torch.equal(slim.depth_bn.running_mean,
                       dense.depth_bn.running_mean[channels['stem']])


def test_statistics_of_a_policy_do_not_reach_the_dense_ones(prepared):
    mutator, model = prepared
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with mutator.acting(Policy(WIDTHS)):
        model.train()
        model(image())
        assert not torch.equal(model.stem_bn.running_mean,
                               before['stem_bn.running_mean'][:6])
        model.eval()
    changed = {k.split('.')[-1] for k, v in model.state_dict().items()
               if not torch.equal(v, before[k])}
    assert changed == {'num_batches_tracked'}


def test_a_slim_model_is_made_of_the_dense_one(prepared):
    mutator, _ = prepared
    with mutator.acting(Policy(WIDTHS)), pytest.raises(AssertionError, match='reset'):
        mutator.materialise(Policy(WIDTHS))


def test_says_what_the_space_is():
    assert ChannelMutator(divisor=4, min_ratio=0.2).space_options == dict(
        divisor=4, min_ratio=0.2, step=None, dense=())
