"""Islands: generations, migration, and the contract of searchers."""

from mmcompress.policy import Policy
from mmcompress.searchers import Evaluated, Islands
from mmcompress.testing import SearcherContract


class TestIslands(SearcherContract):
    searcher = Islands
    options = dict(population=2, islands=2, top=2, every=1)

    def entry(self, searcher, number, score) -> Evaluated:
        """A policy of its own for every number; only ``stem`` and ``merge`` differ."""
        policy = Policy({'stem': 2 + 2 * (number % 8), 'merge': 4 + 2 * (number // 8)})
        return Evaluated(number, policy, score, searcher.costs.of(policy))

    def test_places(self):
        # 3 targets x 2 islands x 2 policies: 12 evaluations are a generation.
        searcher = self.make()
        assert searcher.place(0) == (0, 0, 0, 0)
        assert searcher.place(5) == (2, 0, 1, 0)
        assert searcher.place(6) == (0, 0, 0, 1)
        assert searcher.place(12) == (0, 1, 0, 0)

    def test_parents_are_the_best_of_finished_generations(self):
        searcher = self.make(targets={'macs': [0.5]})  # 4 evaluations a generation
        scores = [1, 2, 3, 4, 9, 9, 9, 9]
        history = [self.entry(searcher, n, s) for n, s in enumerate(scores)]
        rows = searcher.space.encode(e.policy for e in history)
        # Island 0 holds numbers 0 and 2; from island 1 came 3 and 1, top is 2.
        parents = searcher._parents(history, 0, 1, 0)
        assert parents.tolist() == rows[[3, 2]].tolist()
        assert searcher._parents(history, 0, 0, 0).size == 0

    def test_islands_keep_apart_between_migrations(self):
        searcher = self.make(targets={'macs': [0.5]}, every=3)
        history = [self.entry(searcher, n, n) for n in range(16)]
        rows = searcher.space.encode(e.policy for e in history)
        # Generations 1 and 2: even numbers only; at generation 3 two odd ones come.
        assert searcher._parents(history, 0, 2, 0).tolist() == rows[[6, 4]].tolist()
        assert searcher._parents(history, 0, 3, 0).tolist() == rows[[11, 10]].tolist()

    def test_mutants_and_crossovers(self):
        searcher = self.make()
        parents = searcher.space.encode([Policy({'stem': 4}), Policy({'merge': 8})])
        crossed = searcher._children(parents, False, 32, searcher.rng(0))
        assert ((crossed == parents[0]) | (crossed == parents[1])).all()
        assert 1 < len({tuple(row) for row in crossed.tolist()}) <= 4
        mutants = searcher._children(parents, True, 32, searcher.rng(0))
        distance = (mutants[:, None] != parents).sum(-1).min(1)
        assert distance.max() >= 1 and distance.mean() < 2
        searcher.space.check(searcher.space.decode(mutants)[0])


def test_it_improves_over_its_first_generation():
    case = TestIslands()
    case.evaluations, case.targets = 120, {'macs': [0.5]}
    case.options = dict(population=10, islands=2, top=5)
    history = case.run(case.make())
    first = max(e.score for e in history[:20])
    assert max(e.score for e in history) > first
    assert len(history) == 120
