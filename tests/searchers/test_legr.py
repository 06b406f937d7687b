"""LeGR."""

import inspect
import json
import pickle

import numpy as np
import pytest

from mmcompress.costs import Costs, CostTable, parse_targets
from mmcompress.errors import CompressionError, PolicyError, TargetError
from mmcompress.policy import ChannelScores, SearchSpace
from mmcompress.searchers import Evaluated, LeGR
from mmcompress.testing import (
    SearcherContract,
    chain_graph,
    run_search,
    toy_score,
    toy_scores,
    toy_space,
)


class TestLeGR(SearcherContract):
    searcher = LeGR
    options = dict(scores=toy_scores(), population=8, tournament=4)

    def test_starts_from_the_base_ranking(self):
        searcher = self.make(toy_space(divisor=1))
        widths = plain_global_pruning(searcher, 0.35)
        assert dict(self.run(searcher, evaluations=1)[0].policy.widths) == widths

    def test_every_evaluation_is_at_the_tightest_budget(self):
        searcher = self.make(toy_space(divisor=1))
        for entry in self.run(searcher):
            assert searcher.targets[2].met_by(entry.costs)
            # The dearest channel is one of merge: 64 * 40 + 80 * 9 * 32 MACs.
            assert entry.costs['macs'] > searcher.targets[2].limit - 25600

    def test_scored_at_another_budget(self):
        searcher = self.make(toy_space(divisor=1), search_at={'macs': 0.6})
        history = self.run(searcher)
        for entry in history:
            ratio = entry.costs['macs'] / searcher.costs.dense()['macs']
            assert 0.57 < ratio <= 0.6  # One channel is worth 2.6 % at most.
        for policy, target in zip(
                searcher.answers(history, searcher.targets), searcher.targets):
            assert target.met_by(searcher.costs.of(policy))

    def test_smaller_deviation_stays_nearer_the_base_ranking(self):
        distance = []
        for deviation in (1.0, 0.1):
            searcher = self.make(toy_space(divisor=1), deviation=deviation)
            rows = searcher.space.encode(e.policy for e in self.run(searcher))
            distance.append(np.abs(rows[1:] - rows[0]).sum(1).mean())
        assert distance[1] < distance[0] / 2

    def test_nested_policies_from_the_best_ranking(self):
        searcher = self.make()
        history = self.run(searcher)
        spec = {'macs': [0.9, 0.6, 0.45], 'params': [0.5]}
        more = parse_targets(spec, searcher.costs)
        answers = searcher.answers(history, (*searcher.targets, *more))
        assert answers[2] == max(history, key=lambda e: e.score).policy
        for policy, target in zip(answers, (*searcher.targets, *more)):
            searcher.space.check(policy)
            assert target.met_by(searcher.costs.of(policy))
        rows = searcher.space.encode(answers[i] for i in (3, 0, 4, 1, 5, 2))
        assert (np.diff(rows, axis=0) <= 0).all()
        assert searcher.answers((), more) == () and searcher.artefacts(()) == {}

    def test_targets_of_several_costs_are_all_met(self):
        searcher = self.make(targets={'macs': [0.6], 'params': [0.5]})
        for entry in self.run(searcher):
            assert all(t.met_by(entry.costs) for t in searcher.targets)

    def test_saved_ranking_answers_without_a_search(self, tmp_path):
        searcher = self.make()
        history = self.run(searcher)
        path = tmp_path / 'ranking.json'
        path.write_text(json.dumps(searcher.artefacts(history)['ranking.json']))
        loaded = self.make(ranking=str(path))
        assert loaded.propose((), 0) is None
        assert loaded.answers((), searcher.targets) == \
            searcher.answers(history, searcher.targets)
        facts = loaded.artefacts(())['ranking.json']['facts']
        assert facts['score'] == max(e.score for e in history)
        other = ChannelScores('taylor', toy_scores().units)
        with pytest.raises(PolicyError, match="importance to 'l2'"):
            self.make(ranking=str(path), scores=other)

    @pytest.mark.parametrize('late', [1, 2, 5])
    def test_several_workers(self, late):
        # Each evaluation becomes known only when `late` more have been proposed.
        searcher = self.make()
        score, history, pending = toy_score(searcher.space), [], []
        for number in range(self.evaluations):
            if len(pending) == late + 1:
                history.append(pending.pop(0))
            policy = searcher.propose(history, number, [e.policy for e in pending])
            pending.append(Evaluated(
                number, policy, score(policy), searcher.costs.of(policy)))
        history += pending
        assert len({e.policy for e in history}) == self.evaluations
        # Every ranking is found again, by any process and from any part known before.
        fresh = self.make()
        assert all(g is not None for _, g in fresh._replay(history))
        assert fresh.answers(history, fresh.targets) == \
            searcher.answers(history, searcher.targets)
        assert pickle.loads(pickle.dumps(fresh)).propose(
            history[:-1], len(history) - 1) == self.make().propose(
            history[:-1], len(history) - 1)

    def test_errors(self):
        with pytest.raises(CompressionError, match='population'):
            self.make(population=0)
        with pytest.raises(CompressionError, match='deviation'):
            self.make(deviation=0)
        with pytest.raises(CompressionError, match='ranks channels'):
            self.make(scores=None)
        with pytest.raises(TargetError, match='min_channels'):
            self.make(min_channels=16, targets={'macs': [0.2]})


def plain_global_pruning(searcher, share):
    """Remove the least channel of the network until the MACs are met, one by one."""
    space, costs = searcher.space, searcher.costs
    limit = share * costs.dense()['macs']
    scores = toy_scores().summed()
    widths = {unit: len(score) for unit, score in scores.items()}
    floors = {u: max(2, int(np.ceil(0.1 * w - 1e-9))) for u, w in widths.items()}
    while True:
        row = space.highest
        row[:len(widths)] = [widths[u] for u in space.units]
        if float(costs.of_rows('macs', row)) <= limit:
            return widths
        # Scores are descending in a unit, so its last channel is its least.
        least = min((u for u in widths if widths[u] > floors[u]),
                    key=lambda u: scores[u][widths[u] - 1])
        widths[least] -= 1


def wide_search(**options):
    graph = chain_graph(20, width=32)
    space = SearchSpace.from_graph(graph, divisor=1)
    costs = Costs(CostTable.from_graph(graph), space)
    rng = np.random.default_rng(5)
    scores = ChannelScores('l2', {
        u.name: {u.name: np.sort(rng.exponential(size=32))[::-1]} for u in graph.units})
    targets = parse_targets({'macs': [0.3]}, costs)
    return LeGR(space, costs, targets, scores, **options)


def test_constants_of_the_paper():
    defaults = {k: p.default for k, p in inspect.signature(LeGR).parameters.items()}
    assert (defaults['evaluations'], defaults['population'], defaults['tournament'],
            defaults['mutation'], defaults['reduction']) == (400, 64, 16, 0.1, 'sum')


def test_random_rankings_then_mutants_of_recent_ones():
    searcher = wide_search(evaluations=40, population=10, tournament=3)
    history = run_search(searcher, toy_score(searcher.space))
    found = [g for _, g in searcher._replay(history)]
    assert (found[0].alpha == 1).all() and (found[0].kappa == 0).all()
    log_alpha = np.log([g.alpha for g in found[1:10]])
    assert abs(log_alpha.mean()) < 0.25 and abs(log_alpha.std() - 1) < 0.15
    share = np.array([g.kappa for g in found[1:10]]) / searcher.ladder.spread
    assert abs(share.mean()) < 0.25 and abs(share.std() - 1) < 0.15
    for number in range(10, 40):
        # Two of 20 layers differ from a parent among the ten evaluations before.
        changed = [int((found[number].alpha != found[n].alpha).sum())
                   for n in range(number - 10, number)]
        assert min(changed) == 2


def test_a_parent_wins_its_tournament():
    searcher = wide_search(evaluations=40, population=10, tournament=400)
    history = run_search(searcher, toy_score(searcher.space))
    found = [g for _, g in searcher._replay(history)]
    for number in range(10, 40):  # 400 draws miss none of ten.
        recent = history[number - 10:number]
        best = max(recent, key=lambda e: (e.score, -e.number)).number
        assert (found[number].alpha != found[best].alpha).sum() == 2


def test_better_than_the_base_ranking():
    searcher = wide_search(evaluations=60, population=12, tournament=4)
    history = run_search(searcher, toy_score(searcher.space))
    scores = [e.score for e in history]
    assert max(scores[12:]) > max(scores[:12])
