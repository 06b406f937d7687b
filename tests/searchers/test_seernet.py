"""SeerNet."""

import time

import numpy as np
import pytest

from mmcompress.costs import Costs, CostTable, parse_targets
from mmcompress.errors import CompressionError
from mmcompress.policy import SearchSpace
from mmcompress.searchers import Evaluated, Evolution, Random, SeerNet, best_per_target
from mmcompress.searchers.predictors import Predictor
from mmcompress.testing import (
    SearcherContract,
    chain_graph,
    run_search,
    toy_costs,
    toy_score,
    toy_space,
)

FAST = dict(population=40, generations=5, starts=4, steps=15,
            predictor=dict(iterations=10))


class TestSeerNet(SearcherContract):
    searcher = SeerNet
    options = FAST
    fits_budget = False


class TestRidgeByCounterfactual(SearcherContract):
    searcher = SeerNet
    options = dict(
        FAST, predictor=dict(type='RidgePredictor'), acquisition='counterfactual',
        weighting=True)
    fits_budget = False


@pytest.fixture(scope='module')
def searched():
    costs = toy_costs(toy_space((2, 4, 8), (4, 8)))
    targets = parse_targets({'bops': [0.03, 0.015, 0.008]}, costs)
    searcher = SeerNet(costs.space, costs, targets, 48)
    return searcher, run_search(searcher, toy_score(costs.space))


def test_better_than_random_and_evolution_on_every_budget():
    graph = chain_graph(12)
    space = SearchSpace.from_graph(
        graph, divisor=32, weight_bits=(4, 6, 8), activation_bits=(4, 6, 8))
    costs = Costs(CostTable.from_graph(graph), space)
    targets = parse_targets({'bops': [0.03, 0.015]}, costs)

    def best(kind):
        history = run_search(kind(space, costs, targets, 60), toy_score(space))
        return [e.score for e in best_per_target(history, targets)]

    ours = best(SeerNet)
    for rival in (Random, Evolution):
        assert all(a > b for a, b in zip(ours, best(rival)))


def test_a_new_budget_is_answered_from_the_history(searched):
    searcher, history = searched
    new = parse_targets({'bops': [0.02, 0.01]}, searcher.costs)
    first = searcher.answers(history, new)
    score = toy_score(searcher.space)
    for policy, target in zip(first, new):
        assert target.met_by(searcher.costs.of(policy))
        best, = best_per_target(history, [target])
        assert score(policy) > best.score - 0.005
    # Once they are evaluated, the best within each budget stands.
    after = [*history, *(
        Evaluated(48 + i, p, score(p), searcher.costs.of(p))
        for i, p in enumerate(first))]
    assert searcher.answers(after, new) == tuple(
        e.policy for e in best_per_target(after, new))


def test_what_it_learned_is_saved_and_answers_alone(searched, tmp_path):
    searcher, history = searched
    (tmp_path / 'p.npz').write_bytes(searcher.artefacts(history)['predictor.npz'])
    predictor = Predictor.load(tmp_path / 'p.npz', searcher.space)
    assert predictor.agreement.labels == 48
    new = parse_targets({'bops': [0.02]}, searcher.costs)
    alone = SeerNet(searcher.space, searcher.costs, new, load=tmp_path / 'p.npz')
    assert alone.answers((), new) == searcher.answers(history, new)


def test_nothing_is_answered_from_nothing(searched):
    searcher, history = searched
    assert searcher.answers(history[:2], searcher.targets) == ()
    assert searcher.artefacts(()) == {}


def test_a_batch_is_computed_once(searched, monkeypatch):
    searcher, history = searched
    searcher = SeerNet(
        searcher.space, searcher.costs, searcher.targets, 48, batch=4)
    start = searcher.initial
    first = searcher.propose(history[:start], start)
    monkeypatch.setattr('mmcompress.searchers.seernet.evolve', None)
    begun = time.perf_counter()
    second = searcher.propose(history[:start], start + 1, [first])
    assert second not in (None, first) and time.perf_counter() - begun < 5


@pytest.mark.parametrize('options, message', [
    (dict(initial=0), 'initial of SeerNet'), (dict(batch=0), 'batch of SeerNet'),
    (dict(initial=0.7, verify=0.5), r'initial \+ verify <= 1')])
def test_bad_options_are_refused(options, message):
    costs = toy_costs()
    targets = parse_targets({'macs': [0.5]}, costs)
    with pytest.raises(CompressionError, match=message):
        SeerNet(costs.space, costs, targets, **options)


def test_labels_lie_near_the_budgets(searched):
    searcher, history = searched
    spent = np.array([e.costs['bops'] for e in history])
    limits = [t.limit for t in searcher.targets]
    assert (spent <= max(limits) * (1 + 1e-9)).all()
    assert (spent >= 0.5 * min(limits)).all()
