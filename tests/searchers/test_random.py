"""Random searches."""

import numpy as np

from mmcompress.searchers import Random
from mmcompress.searchers.starts import random_rows
from mmcompress.testing import SearcherContract, toy_space


class TestRandom(SearcherContract):
    searcher = Random

    def test_uses_up_the_budget(self):
        searcher = self.make()
        for entry in self.run(searcher):
            target = searcher.targets[entry.number % 3]
            # One step of the widest unit is worth about 6 % of the toy's MACs.
            assert entry.costs['macs'] > 0.9 * target.limit

    def test_seeds_differ(self):
        one, other = self.run(self.make(seed=0)), self.run(self.make(seed=1))
        assert all(a.policy != b.policy for a, b in zip(one, other))

    def test_policies_of_one_budget_are_diverse(self):
        searcher = self.make(targets={'macs': [0.5]})
        rows = searcher.space.encode(e.policy for e in self.run(searcher))
        free = searcher.space.free
        assert (np.ptp(rows, 0)[free] > 0.3 * searcher.space.highest[free]).all()


def test_random_rows_stay_between_the_ends_and_differ_in_level():
    space = toy_space((2, 8, 32), (8, 32))
    rows = random_rows(space, 300, np.random.default_rng(0))
    assert (rows >= space.lowest).all() and (rows <= space.highest).all()
    free = space.free
    share = (rows - space.lowest)[:, free] / (space.highest - space.lowest)[free]
    assert share.mean(1).min() < 0.25 and share.mean(1).max() > 0.75
    assert share.std(1).min() < 0.2 and share.std(1).max() > 0.3
