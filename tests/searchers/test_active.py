"""Choosing labels."""

import numpy as np
import pytest
import torch

from mmcompress.errors import PredictorError
from mmcompress.policy import SearchSpace
from mmcompress.searchers.active import (
    ACQUISITIONS,
    acquisition,
    counterfactual,
    counterfactual_weights,
    diverse,
    evolve,
)
from mmcompress.searchers.predictors import GPPredictor, RidgePredictor
from mmcompress.testing import toy_space

RNG = np.random.default_rng(0)


def linear(space, coefficients):
    """A predictor that is exactly linear in the features."""
    predictor = RidgePredictor(space)
    count = len(predictor.features)
    predictor.state = dict(
        center=torch.zeros(count).double(), floor=torch.tensor(1.0).double(),
        coefficients=torch.tensor(coefficients).double(),
        covariance=torch.eye(count).double(),
        offset=torch.tensor(5.0).double(), scale=torch.tensor(2.0).double())
    return predictor


def test_counterfactual_by_hand():
    # Widths 1 and 4: features -1 and 1. Bits 1 and 2 alike: 4^-1 is 1, 4^-2 is -1.
    space = SearchSpace(('u',), ('l',), ((1, 4), (1, 2), (32,)))
    predictor = linear(space, [3.0, -1.0])
    rows = np.array([[4, 2, 32], [4, 1, 32], [1, 1, 32]])
    # One lower changes a feature by 2 and so f by 2 * 2 * |coefficient|: 12 and 4.
    expected = [(12 ** 2 + 4 ** 2) / 2, 12 ** 2, 0]
    np.testing.assert_allclose(counterfactual(predictor, rows, RNG), expected)


def test_weights_by_hand():
    space = SearchSpace(('u',), (), ((1, 4),))
    predictor = linear(space, [1.0])
    # f is 7 at width 4 and 3 at width 1. Label 7 misses its counterfactual by 4,
    # label 9 by 6: raw weights 4 and 6, and 0.8 and 1.2 after normalising.
    weights = counterfactual_weights(predictor, np.array([[4], [4]]), np.array([7, 9]))
    np.testing.assert_allclose(weights, [0.8, 1.2])


@pytest.mark.parametrize('name', ACQUISITIONS)
def test_one_interface(name):
    space = toy_space((2, 4, 8), (4, 8))
    rows = np.array([[RNG.choice(c) for c in space.choices] for _ in range(30)])
    predictor = GPPredictor(space, iterations=5)
    predictor.fit(rows, RNG.normal(size=30))
    value = acquisition(name)(predictor, rows[:7], np.random.default_rng(0))
    assert value.shape == (7,) and np.isfinite(value).all() and (value >= 0).all()


def test_unknown_acquisition():
    with pytest.raises(PredictorError, match='use one of counterfactual'):
        acquisition('entropy')


def test_evolution_finds_the_best_and_never_loses_it():
    space = toy_space((2, 4, 8), (2, 4, 8))
    goal = space.snap(np.random.default_rng(5).uniform(space.lowest, space.highest))[0]
    seen = []

    def merit(rows):
        value = -np.abs(rows - goal).astype(float).sum(1)
        seen.append(value.max())
        return np.where(rows[:, 0] > space.lowest[0], value, -np.inf)

    start = np.array([[RNG.choice(c) for c in space.choices] for _ in range(100)])
    rows, value = evolve(space, merit, start, np.random.default_rng(0), 60)
    assert value[0] == max(v for v in seen if np.isfinite(v)) > -12
    assert (np.diff(value) <= 0).all() and np.isfinite(value).all()
    assert len(np.unique(rows, axis=0)) == len(rows)
    for policy in space.decode(rows[:5]):
        space.check(policy)


def test_a_diverse_batch_by_hand():
    space = SearchSpace(('u',), (), (tuple(range(1, 11)),))
    predictor = RidgePredictor(space)
    rows = np.array([[5], [6], [1], [10], [9]])
    # 5 is the best. On the logarithmic scale 1 is farthest from it; then 10.
    taken = diverse(predictor, rows, 3, np.empty((0, 1), int))
    assert taken.tolist() == [[5], [1], [10]]
    # With 1 known, it teaches nothing.
    assert diverse(predictor, rows, 2, np.array([[1]])).tolist() == [[5], [10]]
    assert len(diverse(predictor, rows, 9, np.empty((0, 1), int))) == 5
