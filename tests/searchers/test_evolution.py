"""Evolution."""

import numpy as np

from mmcompress.costs import Costs, CostTable, parse_targets
from mmcompress.policy import SearchSpace
from mmcompress.searchers import (
    Evaluated,
    Evolution,
    LeGR,
    Random,
    Searcher,
    Uniform,
    best_per_target,
)
from mmcompress.testing import (
    SearcherContract,
    chain_graph,
    run_search,
    toy_score,
    toy_scores,
)


class TestEvolution(SearcherContract):
    searcher = Evolution

    def test_starts_from_the_uniform_policies(self):
        searcher = self.make()
        uniform = Uniform(searcher.space, searcher.costs, searcher.targets)
        assert self.run(searcher, evaluations=3) == self.run(uniform, evaluations=3)

    def test_neighbouring_budgets_help_each_other(self):
        searcher = self.make()
        good = self.run(searcher)[:1]  # one policy, within the loosest budget only
        rows, merit = searcher._parents(good, 2)
        assert len(rows) == 1
        assert np.array_equal(rows, searcher.space.encode(good[0].policy))
        assert merit.tolist() == [4]  # two budgets away


class TestEvolutionWithScores(SearcherContract):
    searcher = Evolution
    options = dict(scores=toy_scores())

    def test_then_starts_from_the_ranking_at_every_budget(self):
        searcher = self.make()
        ranking = LeGR(searcher.space, searcher.costs, searcher.targets,
                       scores=toy_scores(), min_channels=1)
        history = self.run(searcher, evaluations=6)
        assert [e.policy for e in history[3:]] == [
            ranking.policy_of(ranking.identity, [t]) for t in searcher.targets]


def test_a_joint_search_also_starts_from_bits_at_full_widths():
    graph = chain_graph(3)
    space = SearchSpace.from_graph(
        graph, weight_bits=(2, 4, 8), activation_bits=(2, 4, 8))
    costs = Costs(CostTable.from_graph(graph), space)
    # W4A4 has 16 / 1024 of the BOPs, W2A2 4 / 1024, more than the last budget.
    targets = parse_targets({'bops': [0.016, 0.002]}, costs)
    history = run_search(Evolution(space, costs, targets, 6), toy_score(space))
    wide, other = space.encode(e.policy for e in history[2:4])
    units = len(space.units)
    assert np.array_equal(wide[:units], space.highest[:units])
    assert (wide[units:] == 4).all()
    assert targets[1].met_by(history[3].costs)
    assert not np.array_equal(other[:units], space.highest[:units])


def test_better_than_random_and_uniform_on_every_budget():
    graph = chain_graph(30)
    space = SearchSpace.from_graph(graph)
    costs = Costs(CostTable.from_graph(graph), space)
    targets = parse_targets({'macs': [0.75, 0.5, 0.35]}, costs)

    def best(kind: type[Searcher]) -> list[float]:
        history = run_search(kind(space, costs, targets, 120), toy_score(space))
        return [e.score for e in best_per_target(history, targets)]

    ours = best(Evolution)
    for rival in (Random, Uniform):
        assert all(a > b for a, b in zip(ours, best(rival)))


def test_a_long_history_and_many_columns():
    graph = chain_graph(50)
    space = SearchSpace.from_graph(
        graph, weight_bits=(4, 6, 8), activation_bits=(4, 8))
    assert len(space.free) == 150
    costs = Costs(CostTable.from_graph(graph), space)
    targets = parse_targets({'bops': [0.01, 0.02, 0.03]}, costs)
    rng = np.random.default_rng(0)
    rows = space.snap(rng.uniform(space.lowest, space.highest, (1000, len(space))))
    history = tuple(
        Evaluated(i, p, float(rng.random()), {'bops': float(c)}) for i, (p, c) in
        enumerate(zip(space.decode(rows), costs.of_rows('bops', rows))))
    for kind in (Evolution, Random):
        searcher = kind(space, costs, targets, 2000)
        for number in range(1000, 1003):
            policy = searcher.propose(history, number)
            assert targets[number % 3].met_by(costs.of(policy))
            assert policy not in [e.policy for e in history]
