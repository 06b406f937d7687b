"""Closed-form prices: what repair leaves, and what rounding does."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mmcompress as mmc
from mmcompress.errors import CompressionError
from mmcompress.prices import ReconstructionPrices, Subject
from mmcompress.prices.reconstruction import bit_errors, weighed_choice, width_errors
from mmcompress.session import Session

SPREAD = (2.0, 1.0, 1.0, 0.5)


class Chain(nn.Module):
    """Two pointwise convolutions; the first gives independent channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 4, 1)
        self.first.weight.data = torch.diag(torch.tensor(SPREAD))[..., None, None]
        self.second = nn.Conv2d(4, 3, 1)
        generator = torch.Generator().manual_seed(0)
        self.second.weight.data = torch.randn(3, 4, 1, 1, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


class Residual(nn.Module):
    """Windows, and a stream that a convolution and a linear layer read."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(4, 8, 3, padding=1)
        self.inner = nn.Conv2d(8, 6, 3, padding=1)
        self.outer = nn.Conv2d(6, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return self.head((x + self.outer(self.inner(x).relu())).mean((2, 3)))


def images() -> Tensor:
    return torch.randn(32, 4, 16, 16, generator=torch.Generator().manual_seed(1))


def prepared(**settings) -> Session:
    channel = dict(divisor=1, min_ratio=0.25, importance='index')
    return mmc.prepare(Chain(), images()[:1], calibration=images().split(8),
                       channel=channel, dynamic_bn='off', **settings)


def subject_of(session: Session) -> Subject:
    return Subject(session.model, session.graph, session.space, session.mutator,
                   session.evaluator, lambda _: None)


def test_a_width_costs_what_independent_channels_carried():
    session = prepared()
    unit, = session.graph.units
    curve = width_errors(
        subject_of(session), session.evaluator.calibration)[0]
    # Nothing can be repaired, so a channel costs its variance times its weights.
    loads = Chain().second.weight.detach().square().sum((0, 2, 3))
    carried = torch.tensor(SPREAD) ** 2 * loads
    left = carried.flip(0).cumsum(0).flip(0) / carried.sum()
    widths = session.space.choices[0]
    assert widths == (1, 2, 3, 4) and unit.width == 4
    np.testing.assert_allclose(curve, [*left[1:], 0.0], atol=0.01)


@pytest.mark.parametrize('network', [Chain, Residual])
def test_the_order_that_the_channels_have_knows_the_prices(network, monkeypatch):
    session = mmc.prepare(
        network(), images()[:1], calibration=images().split(8), dynamic_bn='off',
        channel=dict(divisor=1, min_ratio=0.25, importance='obs'))
    subject, x = subject_of(session), session.evaluator.calibration
    known = width_errors(subject, x)
    monkeypatch.setattr(session.mutator.channel, 'scores', None)
    eliminated = width_errors(subject, x)
    assert known.keys() == eliminated.keys() == {*range(len(session.graph.units))}
    for unit, errors in known.items():
        np.testing.assert_allclose(errors, eliminated[unit], rtol=1e-6, atol=1e-12)
        assert (np.diff(errors) < 0).all()


@torch.no_grad()
def test_bits_cost_the_error_that_they_make():
    session = prepared(quant=dict(bits=[2, 4, 8], keep8=()))
    errors = bit_errors(subject_of(session), session.evaluator.calibration)
    _, weights, activations = session.space.split(np.arange(len(session.space)))
    assert sorted(errors) == sorted(map(int, [*weights, *activations]))
    name = session.space.layers[1]
    module = session.model.get_submodule(name)
    x = images() if name == 'first' else session.model.first(images())
    change = session.mutator.quantiser.weight(name, 2) - module.weight
    by_hand = (nn.functional.conv2d(x, change).var((0, 2, 3)).sum()
               / module(x).var((0, 2, 3)).sum())
    at_two = errors[int(weights[1])][0]
    assert at_two == pytest.approx(float(by_hand), rel=0.05)
    # The first layer multiplies each channel by one number, which rounds to itself.
    assert not errors[int(weights[0])].any()
    assert all((np.diff(errors[int(column)]) < 0).all()
               for column in (weights[1], *activations))


def test_a_column_is_weighed_where_it_costs_something():
    assert weighed_choice(np.array([0.5, 0.1, 0.03, 0.01, 0.0])) == 2
    assert weighed_choice(np.array([0.01, 0.001, 0.0])) == 0


@torch.no_grad()
def test_prices_are_distances_and_come_from_disk_the_second_time(tmp_path):
    session = prepared(quant=dict(bits=[2, 8], keep8=()))
    source = ReconstructionPrices(images=16)
    table = source.compute(subject_of(session), tmp_path)
    # At the choice it was weighed at, a price is the distance itself.
    rows = np.stack([session.space.highest] * 2)
    x = session.evaluator.calibration[:2]
    curve = width_errors(subject_of(session), x)[0]
    rows[1, 0] = session.space.choices[0][weighed_choice(curve)]
    best, narrow = session.space.decode(rows)
    with session.mutator.acting(narrow) as model:
        outputs = torch.cat([model(batch.inputs) for batch in x])
    with session.mutator.acting(best) as model:
        dense = torch.cat([model(batch.inputs) for batch in x])
    distance = (outputs - dense).square().mean() / dense.var()
    spent = np.diff(table.of_rows(rows))[0]
    assert spent == pytest.approx(float(distance), rel=1e-2)
    again = source.compute(Subject(
        session.model, session.graph, session.space, None, session.evaluator), tmp_path)
    assert all((a.prices == b.prices).all()
               for a, b in zip(table.groups, again.groups))


def test_an_unknown_measure_is_refused():
    with pytest.raises(CompressionError, match='is one of'):
        ReconstructionPrices(measure='mAP')

