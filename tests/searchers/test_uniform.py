"""Uniform searches."""

import numpy as np

from mmcompress.costs import parse_targets
from mmcompress.searchers import Uniform, uniform_row
from mmcompress.searchers.starts import uniform_pairs, uniform_rows
from mmcompress.testing import SearcherContract, toy_costs, toy_space


class TestUniform(SearcherContract):
    searcher = Uniform
    fits_budget = False

    def test_first_evaluations_are_the_largest_ratios_in_budget(self):
        searcher = self.make()
        ratios, rows = uniform_rows(searcher.space)
        costs = searcher.costs.of_rows('macs', rows).numpy()
        for entry, target in zip(self.run(searcher), searcher.targets):
            i = (rows == searcher.space.encode(entry.policy)).all(1).argmax()
            assert costs[i] <= target.limit < costs[i + 1]
            assert np.array_equal(uniform_row(searcher.space, ratios[i]), rows[i])

    def test_no_column_differs_by_more_than_rounding(self):
        searcher = self.make()
        for entry in self.run(searcher):
            share = [w / u for w, u in zip(
                entry.policy.widths.values(), searcher.space.highest)]
            # Steps of 2 in the narrowest unit of 8 channels round by an eighth.
            assert max(share) - min(share) <= 2 * 1 / 8 + 1e-9

    def test_grid_is_even_and_never_the_dense_model(self):
        searcher = self.make(targets={'macs': [0.5]}, evaluations=5)
        history = self.run(searcher)
        assert len(history) == 5
        macs = [e.costs['macs'] for e in history[1:]]
        assert macs == sorted(macs, reverse=True)
        assert macs[0] < searcher.costs.dense()['macs']
        widths = [e.policy.widths['merge'] for e in history[1:]]
        assert np.ptp(np.diff(widths)) <= 4

    def test_ends_when_every_ratio_is_used(self):
        searcher = self.make(evaluations=10_000)
        history = self.run(searcher)
        assert len(history) == len(uniform_rows(searcher.space)[0]) - 1


def test_close_targets_share_one_policy():
    searcher = TestUniform().make(targets={'macs': [0.5, 0.4999]}, evaluations=4)
    history = TestUniform().run(searcher)
    assert len({e.policy for e in history}) == 4


def test_uniform_rows_hold_every_ratio():
    space = toy_space((4, 8, 32))
    _, rows = uniform_rows(space)
    known = {tuple(row) for row in rows.tolist()}
    for ratio in np.linspace(0.001, 1, 999):
        assert tuple(uniform_row(space, ratio).tolist()) in known
    assert np.array_equal(rows[-1], space.highest)
    assert np.array_equal(rows[0], space.lowest)


def test_uniform_pairs_are_those_that_cannot_be_raised():
    space = toy_space((4, 6, 8), (4, 6, 8), prune=False)
    costs = toy_costs(space)

    def pairs(limit: float) -> list[tuple[int, int]]:
        # In 32 x 32 bits as 1: weight bits times activation bits over 1024.
        (target,) = parse_targets({'bops': [(limit + 0.1) / 1024]}, costs)
        rows = uniform_pairs(space, costs, target)
        found = [set(p.bits.values()) for p in space.decode(rows)] if len(rows) else []
        assert all(len(bits) == 1 for bits in found)
        return [tuple(bits.pop()) for bits in found]

    assert pairs(48) == [(6, 8), (8, 6)]
    assert pairs(36) == [(6, 6), (4, 8), (8, 4)]
    assert pairs(64) == [(8, 8)]


def test_uniform_pairs_need_bits():
    costs = toy_costs()
    (target,) = parse_targets({'macs': [0.5]}, costs)
    assert uniform_pairs(costs.space, costs, target).shape == (0, len(costs.space))
