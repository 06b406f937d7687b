"""Repair as a mutator: what acts is what is written, and it is nearer to the dense."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmcompress.data.images import Batch
from mmcompress.graph import trace, verify
from mmcompress.mutators import (
    Calibration,
    ChannelMutator,
    JointMutator,
    importance,
)
from mmcompress.mutators.reconstruct import repaired_share
from mmcompress.policy import Bits, Policy
from mmcompress.testing import ToyNetwork

SHAPE = (3, 16, 16)
POLICY = Policy({'stem': 8, 'reduce': 4, 'point': 12, 'merge': 16, 'head': 16})


def images(seed: int = 3) -> torch.Tensor:
    """Images of a few patterns, so that channels have something in common."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    shares = torch.randn(16, 4, generator=generator)
    noise = torch.randn(16, *SHAPE, generator=generator)
    return torch.einsum('np,pchw->nchw', shares, patterns) + 0.2 * noise


def prepared(**compression) -> JointMutator:
    model = ToyNetwork().eval()
    mutator = JointMutator.from_config(
        dict(channel=dict(divisor=1, importance='obs'), **compression))
    mutator.prepare(model, verify(model, trace(model, SHAPE)),
                    Calibration(tuple(Batch(x, []) for x in images().split(8))))
    return mutator


def outputs(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([out.flatten() for out in model(x)])


@pytest.mark.parametrize('compression', [{}, dict(quant=dict(bits=[8]))])
def test_what_acts_is_what_is_written(compression):
    mutator = prepared(reconstruct=dict(sequential=False), **compression)
    policy = Policy(POLICY.widths, {'head': Bits(8, 8)} if compression else {})
    dense = outputs(mutator.model, images(5))
    with mutator.acting(policy) as model:
        acted = outputs(model, images(5))
    assert torch.equal(outputs(mutator.model, images(5)), dense)
    slim = mutator.materialise(policy)
    assert slim.head.weight.shape[:2] == (16, 16)
    # Sums of another order may round an activation to the next of its levels.
    change = (outputs(slim, images(5)) - acted).abs()
    assert change.quantile(0.99 if compression else 1.0) < 1e-4 and change.max() < 0.1


def test_the_repaired_network_is_nearer_to_the_dense_one():
    plain, repaired = prepared(), prepared(reconstruct={})
    dense = outputs(plain.model, images(5))

    def error(mutator: JointMutator) -> float:
        with mutator.acting(POLICY) as model:
            return float((outputs(model, images(5)) - dense).square().mean())

    assert error(repaired) < 0.7 * error(plain)


class Plain(nn.Module):
    """Convolutions with biases, one after the other, and a shared head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convs = nn.ModuleList(
            nn.Conv2d(into, 16, 3, padding=1) for into in (3, 16, 16, 16))
        self.head = nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Maps of two sizes."""
        for conv in self.convs:
            x = F.relu(conv(x))
        return self.head(x), self.head(F.avg_pool2d(x, 2))


def test_what_is_written_is_repaired_once_more():
    def error(sequential: bool) -> float:
        model = Plain().eval()
        dense = outputs(model, images(5))
        mutator = JointMutator.from_config(dict(
            channel=dict(divisor=1, importance='obs'),
            reconstruct=dict(sequential=sequential)))
        graph = verify(model, trace(model, SHAPE))
        mutator.prepare(model, graph, Calibration(
            tuple(Batch(x, []) for x in images().split(8))))
        before = {k: v.clone() for k, v in model.state_dict().items()}
        slim = mutator.materialise(Policy({unit.name: 8 for unit in graph.units}))
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        assert slim.head.weight.shape == (4, 8, 1, 1)
        return float((outputs(slim, images(5)) - dense).square().mean())

    assert error(True) < error(False)


def test_dense_widths_need_no_repair():
    mutator = prepared(reconstruct={})
    with mutator.acting(Policy()) as model:
        acted = outputs(model, images(5))
    assert torch.equal(acted, outputs(mutator.model, images(5)))


def test_layers_that_pad_with_other_than_zeros_are_not_repaired():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, padding_mode='circular'),
        nn.Conv2d(8, 4, 1)).eval()
    # Readers have 8 x 8 x 9 and 8 x 4 weights, on maps of one size.
    assert repaired_share(model, trace(model, SHAPE)) == (32 / (576 + 32), ['1'])


class Copies(nn.Module):
    """The second half of the first layer's channels are copies of the first half."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 6, 1)
        self.last = nn.Linear(6, 2)
        for tensor in (self.first.weight, self.first.bias):
            tensor.data[4:] = 2.0 * tensor.data[:4]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Two numbers an image."""
        return self.last(F.relu(self.second(F.relu(self.first(x)))).mean((2, 3)))


def test_copies_go_first_and_nobody_notices():
    model = Copies().eval()
    x = torch.randn(8, *SHAPE, generator=torch.Generator().manual_seed(0))
    dense = outputs_of(model, x)
    mutator = JointMutator.from_config(dict(
        channel=dict(divisor=1, importance='obs'), reconstruct=dict(ridge=1e-9)))
    mutator.prepare(model, verify(model, trace(model, SHAPE)),
                    Calibration((Batch(x, []),)))
    torch.testing.assert_close(outputs_of(model, x), dense)
    with mutator.acting(Policy({'first': 4})):
        torch.testing.assert_close(outputs_of(model, x), dense, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        outputs_of(mutator.materialise(Policy({'first': 4})), x), dense,
        atol=1e-5, rtol=1e-5)


def outputs_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(x)


def test_obs_without_images_is_refused():
    from mmcompress.errors import DataError

    model = ToyNetwork().eval()
    with pytest.raises(DataError, match='images without labels'):
        ChannelMutator(importance='obs').prepare(
            model, verify(model, trace(model, SHAPE)))


def test_obs_scores_are_losses_that_rise_in_the_order_of_removal():
    model = ToyNetwork().eval()
    graph = verify(model, trace(model, SHAPE))
    mutator = ChannelMutator(importance='obs')
    mutator.prepare(model, graph, Calibration((Batch(images(), []),)))
    for scores in mutator.scores.summed().values():
        assert (scores[:-1] >= scores[1:]).all() and scores[-1] >= 0
    assert importance(model, graph, 'l2').keys() == mutator.scores.summed().keys()


class Levels(nn.Module):
    """A convolution that two levels share, each with a norm of its own (RTMDet)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.shared = nn.Conv2d(16, 8, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(2))
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.stem(x).relu()
        levels = x, nn.functional.avg_pool2d(x, 2)
        return tuple(self.head(norm(self.shared(level)).relu())
                     for norm, level in zip(self.norms, levels))


def test_every_norm_behind_a_shared_layer_takes_its_means():
    model = Levels().eval()
    graph = verify(model, trace(model, SHAPE))
    mutator = JointMutator.from_config(dict(
        channel=dict(divisor=1, importance='obs'), reconstruct=dict(sequential=False)))
    mutator.prepare(model, graph, Calibration(
        tuple(Batch(x, []) for x in images().split(8))))
    slim = mutator.materialise(Policy({'stem': 6}))
    # The stored means are 0, so what is there now is what went into the norms.
    first, second = (norm.running_mean for norm in slim.norms)
    assert first.abs().min() > 0 and torch.equal(first, second)
    with mutator.acting(Policy({'stem': 6})) as acting:
        torch.testing.assert_close(
            outputs(acting, images(5)), outputs(slim, images(5)), atol=1e-4, rtol=1e-4)
