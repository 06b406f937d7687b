"""Policies by gradient through a predictor."""

import itertools

import numpy as np
import pytest
import torch

from mmcompress.costs import Target, parse_targets
from mmcompress.policy import SearchSpace
from mmcompress.searchers.grid import Grid
from mmcompress.searchers.predictors import GPPredictor, RidgePredictor
from mmcompress.searchers.solvers import solve
from mmcompress.searchers.solvers.barrier import _log_barrier
from mmcompress.searchers.solvers.rounding import Budgets, Slopes, refilled, repair
from mmcompress.testing import toy_costs, toy_score, toy_space


def fitted(space, kind=RidgePredictor, labels=80):
    rng = np.random.default_rng(0)
    rows = np.array([[rng.choice(c) for c in space.choices] for _ in range(labels)])
    score = toy_score(space)
    predictor = kind(space)
    predictor.fit(rows, np.array([score(p) for p in space.decode(rows)]))
    return predictor


@pytest.fixture(scope='module')
def joint():
    costs = toy_costs(toy_space((2, 4, 8), (4, 8)))
    return costs, fitted(costs.space, GPPredictor)


def test_every_policy_meets_its_budget_whatever_the_cost(joint):
    costs, predictor = joint
    targets = parse_targets(
        {'bops': [0.2, 0.01, 0.004], 'macs': [0.5], 'size_bytes': [0.1, 0.2]}, costs)
    answers = solve(predictor, costs, targets, decoded=10)
    assert answers.rows.shape == (6, 10, len(costs.space))
    for target, rows in zip(targets, answers.rows):
        for policy in costs.space.decode(rows):
            costs.space.check(policy)
            assert target.met_by(costs.of(policy))
    mean, std = predictor.predict(answers.rows)
    np.testing.assert_allclose(mean, answers.mean)
    np.testing.assert_allclose(std, answers.std)
    assert (np.diff(answers.mean, axis=1) <= 0).all()


def test_as_good_as_trying_every_policy():
    # Two units and one layer's bits are free: few enough to try all.
    full = toy_space((2, 4, 8), divisor=8)
    choices = [c if i in (3, 4, 6) else c[-1:] for i, c in enumerate(full.choices)]
    space = SearchSpace(full.units, full.layers, tuple(choices))
    costs, predictor = toy_costs(space), fitted(space, labels=30)
    every = np.array(list(itertools.product(*space.choices)))
    assert 30 < len(every) < 500
    mean = predictor.predict(every)[0].detach().numpy()
    spent = costs.of_rows('bops', every).numpy()
    for limit in np.quantile(spent, [0.1, 0.3, 0.5, 0.9]):
        answers = solve(predictor, costs, [Target('bops', limit, limit)])
        best = mean[spent <= limit].max()
        # Few coarse choices are the hard case for rounding: a tenth of the range.
        assert best - 0.1 * np.ptp(mean) <= answers.mean[0, 0] <= best + 1e-9


def test_every_start_finds_the_same(joint):
    costs, predictor = joint
    targets = parse_targets({'bops': [0.05, 0.02, 0.005]}, costs)
    answers = solve(predictor, costs, targets, decoded=10)
    # The scores of the toy lie between 0 and 1: 0.2 points of a percentage.
    assert np.ptp(answers.mean, axis=1).max() < 0.002


def test_budgets_do_not_disturb_each_other(joint):
    costs, predictor = joint
    targets = parse_targets({'bops': [0.05, 0.01]}, costs)
    together = solve(predictor, costs, targets)
    apart = [solve(predictor, costs, [t]) for t in targets]
    for i, alone in enumerate(apart):
        np.testing.assert_allclose(together.mean[i], alone.mean[0], rtol=1e-6)


def test_no_budget_and_the_tightest_one(joint):
    costs, predictor = joint
    cheapest = float(costs.of_rows('bops', costs.space.lowest))
    targets = [Target('bops', v, v) for v in (cheapest, costs.dense()['bops'])]
    answers = solve(predictor, costs, targets)
    assert (answers.rows[0] == costs.space.lowest).all()
    free = costs.space.highest
    assert answers.mean[1, 0] >= float(predictor.predict(free)[0]) - 1e-9


def test_places_are_evenly_spaced_choices():
    space = SearchSpace(('u',), ('l',), ((4, 8), (4, 8, 32), (32,)))
    grid = Grid.of(space)
    place = torch.tensor(
        [[0.0, 0.0, 0.3], [0.25, 0.25, 0.0], [1.0, 0.75, 1.0]]).double()
    expected = [[4, 4, 32], [5, 6, 32], [8, 20, 32]]
    assert grid.values_at(place).tolist() == expected
    assert grid.nearest(place).tolist() == [[0, 0, 0], [0, 0, 0], [1, 2, 0]]


def test_repair_lowers_and_fill_raises(joint):
    costs, predictor = joint
    grid = Grid.of(costs.space)
    budgets = Budgets(costs, parse_targets({'bops': [0.02, 0.01, 0.01]}, costs))
    index = grid.top * np.array([[1], [1], [0]])
    slopes = Slopes(predictor, grid, budgets, index)
    repaired = repair(budgets, index, slopes)
    assert budgets.fits(grid.rows(repaired)).all()
    assert (repaired[2] == 0).all() and (repaired[0] > 0).any()
    filled = refilled(budgets, repaired, slopes)
    assert budgets.fits(grid.rows(filled)).all() and (filled >= repaired).all()
    assert (filled[2] > 0).any()


def test_barrier_goes_on_smoothly_outside_the_budget():
    # With mu = 0.5 the parabola takes over at a slack of 0.05.
    slack = torch.tensor([0.5, 0.05, 0.0, -0.05]).double()
    expected = [np.log(2), np.log(20), np.log(20) + 1.5, np.log(20) + 4]
    np.testing.assert_allclose(_log_barrier(slack, 0.5), expected)
