"""The slim model of a policy: same classes, smaller layers, right channels."""

import pickle

import numpy as np
import pytest
import torch

from mmcompress.errors import PolicyError
from mmcompress.graph.verify import zeroed
from mmcompress.policy import Policy
from mmcompress.surgery.materialise import check_policy, materialise
from mmcompress.surgery.selection import Selection
from mmcompress.testing import ToyNetwork, toy_costs, toy_graph

POLICY = Policy({'stem': 6, 'reduce': 3, 'point': 10, 'merge': 12, 'head': 7})


@pytest.fixture
def model() -> ToyNetwork:
    return ToyNetwork().eval()


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def any_channels() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {u.name: np.sort(rng.permutation(u.width)[:POLICY.widths[u.name]])
            for u in toy_graph().units}


@pytest.mark.parametrize('channels', [None, any_channels()], ids=['first', 'any'])
def test_equals_the_dense_model_with_zeros(model, image, channels):
    slim = materialise(model, toy_graph(), POLICY, channels)
    selection = Selection(model, toy_graph())
    kept = channels or selection.of_policy(POLICY)
    with torch.no_grad(), zeroed(model, selection.removed(kept)):
        wanted = model(image)
    for out, reference in zip(slim(image), wanted):
        assert torch.allclose(out, reference, rtol=1e-4, atol=1e-4)


def test_is_plain_and_small(model):
    slim = materialise(model, toy_graph(), POLICY)
    assert type(slim) is ToyNetwork
    assert slim.state_dict().keys() == model.state_dict().keys()
    assert sum(p.numel() for p in slim.parameters()) == \
        toy_costs().of(POLICY)['params']
    # merge reads 10 of point and 6 of the stem; fc 7 maps of 2 x 2.
    assert slim.merge.weight.shape == (12, 16, 1, 1)
    assert slim.fc.weight.shape == (16, 28) and slim.fc.in_features == 28
    assert slim.depth.groups == slim.depth.in_channels == 6
    assert slim.depth_bn.num_features == 6
    assert all(p.is_contiguous() for p in slim.parameters())
    assert not any('weight' in vars(m) for m in slim.modules())
    again = pickle.loads(pickle.dumps(slim))
    assert again.merge.weight.shape == (12, 16, 1, 1)


def test_channels_are_those_asked_for(model):
    channels = any_channels()
    slim = materialise(model, toy_graph(), POLICY, channels)
    rows, into = channels['merge'], np.r_[channels['point'], 24 + channels['stem']]
    assert torch.equal(slim.merge.weight, model.merge.weight[rows][:, into])
    assert torch.equal(slim.stem_bn.running_var,
                       model.stem_bn.running_var[channels['stem']])
    flat = (4 * channels['head'][:, None] + np.arange(4)).ravel()
    assert torch.equal(slim.fc.weight, model.fc.weight[:, flat])


def test_the_dense_model_is_not_touched(model, image):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    wanted = model(image)
    slim = materialise(model, toy_graph(), POLICY)
    with torch.no_grad():
        for parameter in slim.parameters():
            parameter.zero_()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(model(image), wanted))


def test_in_place_shrinks_the_model_itself(model):
    assert materialise(model, toy_graph(), POLICY, inplace=True) is model
    assert model.stem.weight.shape == (6, 3, 3, 3)


def test_units_that_are_absent_stay_dense(model):
    slim = materialise(model, toy_graph(), Policy({'reduce': 3}))
    assert slim.reduce.out_channels == 3 and slim.stem.out_channels == 16
    dense = materialise(model, toy_graph(), Policy())
    assert all(torch.equal(v, model.state_dict()[k])
               for k, v in dense.state_dict().items())


def test_frozen_parameters_stay_frozen(model):
    model.stem.requires_grad_(False)
    slim = materialise(model, toy_graph(), POLICY)
    assert not slim.stem.weight.requires_grad and slim.merge.weight.requires_grad


@pytest.mark.parametrize('policy, channels, message', [
    (Policy({'nope': 3}), None, "names the unit 'nope', which this model does not"),
    (Policy({'stem': 0}), None, "Width 0 of unit 'stem' is not between 1 and 16"),
    (Policy({'stem': 17}), None, "Width 17 of unit 'stem' is not between 1 and 16"),
    (Policy({'stem': 2}), {'stem': [0, 16]},
     "channel 16 of unit 'stem', which has 16 channels"),
    (Policy({}), {'nope': [0]}, "names the unit 'nope', which this model does not"),
])
def test_what_does_not_fit_is_an_error(model, policy, channels, message):
    channels = {k: np.array(v) for k, v in (channels or {}).items()}
    with pytest.raises(PolicyError, match=message):
        materialise(model, toy_graph(), policy, channels, inplace=True)
    with pytest.raises(PolicyError, match=message):
        check_policy(toy_graph(), policy, channels)
    assert model.stem.weight.shape == (16, 3, 3, 3)
