"""The order of elimination against brute force."""

import numpy as np
import pytest
import torch

from mmcompress.reconstruction.order import Reader, eliminate


def layer(channels: int = 6, outputs: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Correlated inputs' covariance, and weights ``(channels, outputs)``."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x = draw(400, 4) @ draw(4, channels) + 0.3 * draw(400, channels)
    x = x - x.mean(0)
    return x.T @ x / 400, draw(channels, outputs)


def repaired_loss(covariance, weights, kept) -> float:
    """Error of the outputs over their variance with the best weights on ``kept``."""
    kept = sorted(kept)
    gone = [c for c in range(len(weights)) if c not in kept]
    energy = torch.trace(weights.T @ covariance @ weights)
    change = -weights.clone()
    if kept:
        moved = torch.linalg.solve(
            covariance[kept][:, kept], covariance[kept][:, gone]) @ weights[gone]
        change[kept] = moved
    return float(torch.trace(change.T @ covariance @ change) / energy)


def greedy(covariance, weights, positions) -> tuple[list[int], list[float]]:
    """What elimination does, by solving for every channel at every step."""
    left, order, losses = set(range(len(positions))), [], [0.0]

    def without(channel: int) -> float:
        stay = {int(p) for c in left - {channel} for p in positions[c]}
        return repaired_loss(covariance, weights, stay)

    while left:
        cheapest = min(sorted(left), key=without)
        losses.append(without(cheapest))
        left.remove(cheapest)
        order.append(cheapest)
    return order, losses


@pytest.mark.parametrize('positions', [
    [[c] for c in range(6)], [[0, 3], [1, 4], [2, 5]], [[5], [0]]],
    ids=['one by one', 'pairs', 'some'])
def test_greedy_elimination(positions):
    covariance, weights = layer()
    if len(positions) == 2:  # the others belong to another unit and stay
        covariance, weights = covariance[[0, 5]][:, [0, 5]], weights[[0, 5]]
        positions = [[1], [0]]
    found = eliminate(
        [Reader(covariance, weights @ weights.T, torch.tensor(positions))],
        len(positions), ridge=1e-10)
    order, losses = greedy(covariance, weights, positions)
    assert found.order.tolist() == order
    np.testing.assert_allclose(found.losses.numpy(), losses, atol=1e-7)
    assert found.ranking.tolist() == order[::-1]
    assert found.price(len(positions)) == 0
    assert found.price(1) == pytest.approx(losses[-2], abs=1e-7)


@pytest.mark.parametrize('shrinks', [0.0, 1.0], ids=['never', 'at every step'])
def test_matrices_without_what_is_gone_say_the_same(monkeypatch, shrinks):
    covariance, weights = layer()
    # Two channels of two columns each; the columns 2 and 3 are those of another unit.
    reader = [Reader(covariance, weights @ weights.T, torch.tensor([[0, 5], [4, 1]]))]
    usual = eliminate(reader, 2)
    monkeypatch.setattr('mmcompress.reconstruction.order.SHRINKS', shrinks)
    found = eliminate(reader, 2)
    assert found.order.tolist() == usual.order.tolist()
    torch.testing.assert_close(found.losses, usual.losses, rtol=1e-12, atol=0)
    stay = [c for c in range(6) if c not in (0, 5)] if usual.order[0] == 0 \
        else [c for c in range(6) if c not in (4, 1)]
    assert found.price(1) == pytest.approx(
        repaired_loss(covariance, weights, stay), rel=1e-3)


def test_a_combination_of_others_goes_first_and_costs_nothing():
    covariance, weights = layer(5)
    mix = torch.tensor([0.5, -1.0, 0.0, 2.0, 0.0], dtype=torch.float64)
    row = covariance @ mix
    covariance = torch.cat([
        torch.cat([covariance, row[:, None]], 1),
        torch.cat([row, (mix @ row)[None]])[None]])
    weights = torch.cat([weights, torch.ones(1, 5, dtype=torch.float64)])
    found = eliminate([Reader(
        covariance, weights @ weights.T, torch.arange(6)[:, None])], 6, ridge=1e-9)
    # Any of the four that depend on each other may go first.
    assert int(found.order[0]) in (0, 1, 3, 5)
    assert found.price(5) < 1e-6


def test_readers_are_added_up():
    covariance, weights = layer()
    one = Reader(covariance, weights @ weights.T, torch.arange(6)[:, None])
    two = eliminate([one, one], 6)
    single = eliminate([one], 6)
    assert two.order.tolist() == single.order.tolist()
    np.testing.assert_allclose(two.losses.numpy(), 2 * single.losses.numpy())


def test_the_ridge_is_not_in_the_price():
    covariance, weights = layer()
    damped = eliminate([Reader(
        covariance, weights @ weights.T, torch.arange(6)[:, None])], 6, ridge=1e-2)
    # The price of the first step is the true loss of the damped repair, which is near
    # the best one; with the ridge's own term it would be several times as high.
    kept = [c for c in range(6) if c != int(damped.order[0])]
    best = repaired_loss(covariance, weights, kept)
    assert best <= damped.price(5) <= 1.5 * best


def test_channels_of_wide_units_go_several_at_a_time(monkeypatch):
    weights = torch.diag(torch.tensor([3.0, 1.0, 2.0, 4.0]).double())
    reader = [Reader(torch.eye(4).double(), weights @ weights.T,
                     torch.arange(4)[:, None])]
    one = eliminate(reader, 4)
    monkeypatch.setattr('mmcompress.reconstruction.order.STEPS', 2)
    two = eliminate(reader, 4)
    assert one.order.tolist() == two.order.tolist() == [1, 2, 0, 3]
    # Nothing can be repaired: squares 1, 4, 9 and 16 of 30 go; the second of each two
    # is exact, the first lies in the middle.
    wanted = torch.tensor([0, 2.5, 5, 17.5, 30]).double() / 30
    torch.testing.assert_close(two.losses, wanted, atol=1e-3, rtol=0)
    assert (one.losses[[2, 4]] - two.losses[[2, 4]]).abs().max() < 1e-9
    priced = eliminate(reader, 4, fixed=[1, 2, 0, 3])
    torch.testing.assert_close(priced.losses, two.losses)
