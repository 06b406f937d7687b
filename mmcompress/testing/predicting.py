"""The contract of a predictor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ..errors import PredictorError
from ..policy import SearchSpace
from ..searchers.predictors import Agreement, Predictor
from .searching import toy_score
from .toy import toy_space


class PredictorContract:
    """Tests that every predictor must pass.

    Inherit in a test class and set ``predictor``, e.g.::

        class TestRidge(PredictorContract):
            predictor = RidgePredictor

    Attributes:
        predictor (type[Predictor]): The class under test.
        options (dict): Arguments of its own. Defaults to none.
        labels (int): Labels it is fitted on. Defaults to 60.
        spearman (float): What it must reach on unseen policies of the toy network,
            whose score is smooth in the widths and bits. Defaults to 0.8.
    """

    predictor: type[Predictor]
    options: Mapping[str, Any] = {}
    labels = 60
    spearman = 0.8

    def space(self) -> SearchSpace:
        """A space with free widths, weight bits and activation bits."""
        return toy_space((2, 4, 8), (2, 4, 8))

    def make(self, space: SearchSpace | None = None, **changes: Any) -> Predictor:
        """Build the predictor under test."""
        return self.predictor(
            self.space() if space is None else space, **{**self.options, **changes})

    def data(self, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Random policies and their toy scores."""
        space = self.space()
        rng = np.random.default_rng(seed)
        rows = np.array([[rng.choice(c) for c in space.choices] for _ in range(count)])
        score = toy_score(space)
        return rows, np.array([score(p) for p in space.decode(rows)])

    def fitted(self, **changes: Any) -> Predictor:
        """A predictor that knows some labels."""
        predictor = self.make(**changes)
        predictor.fit(*self.data(self.labels))
        return predictor

    def test_orders_unseen_policies(self):
        rows, scores = self.data(200, seed=1)
        mean, _ = self.fitted().predict(rows)
        assert Agreement.of(mean, scores).spearman > self.spearman

    def test_knows_how_good_it_is(self):
        predictor = self.fitted()
        rows, scores = self.data(200, seed=1)
        truth = Agreement.of(predictor.predict(rows)[0], scores)
        claimed = predictor.agreement
        assert claimed.labels == self.labels
        assert abs(claimed.spearman - truth.spearman) < 0.2
        assert abs(claimed.kendall - truth.kendall) < 0.25

    def test_does_not_claim_to_predict_noise(self):
        rows, _ = self.data(self.labels)
        noise = np.random.default_rng(3).normal(size=self.labels)
        agreement = self.make().fit(rows, noise)
        assert np.isnan(agreement.spearman) or agreement.spearman < 0.4

    def test_means_and_deviations_of_any_batch(self):
        predictor = self.fitted()
        rows, _ = self.data(12, seed=2)
        mean, std = predictor.predict(rows)
        assert mean.shape == std.shape == (12,)
        assert mean.dtype == std.dtype == torch.float64
        assert torch.isfinite(mean).all() and (std > 0).all()
        grid = predictor.predict(rows.reshape(3, 4, -1))
        torch.testing.assert_close(grid[0].flatten(), mean)
        torch.testing.assert_close(grid[1].flatten(), std)
        assert predictor.predict(rows[0])[0].shape == ()

    def test_gradients_flow_to_rows(self):
        predictor = self.fitted()
        rows = torch.as_tensor(self.data(3, seed=2)[0], dtype=torch.float64) + 0.3
        rows.requires_grad_()
        for which in (0, 1):
            assert torch.autograd.gradcheck(
                lambda x, which=which: predictor.predict(x)[which], (rows,), rtol=1e-2)
        predictor.predict(rows)[0].sum().backward()
        assert (rows.grad.abs().sum(0) > 0).all()

    def test_same_seed_gives_the_same_predictor(self):
        rows, _ = self.data(10, seed=2)
        one, other = self.fitted(), self.fitted()
        assert torch.equal(one.predict(rows)[0], other.predict(rows)[0])
        one.fit(*self.data(self.labels, seed=5))
        one.fit(*self.data(self.labels))
        assert torch.equal(one.predict(rows)[0], other.predict(rows)[0])

    def test_scores_of_any_scale(self):
        rows, scores = self.data(self.labels)
        one, other = self.make(), self.make()
        one.fit(rows, scores)
        other.fit(rows, 1000 * scores - 7)
        torch.testing.assert_close(
            1000 * one.predict(rows)[0] - 7, other.predict(rows)[0],
            rtol=1e-3, atol=1e-1)

    def test_weights_say_what_counts(self):
        rows, scores = self.data(self.labels)
        wrong = scores.copy()
        wrong[: self.labels // 2] = scores[::-1][: self.labels // 2]
        weights = np.where(np.arange(self.labels) < self.labels // 2, 1e-3, 1.0)
        unseen, truth = self.data(200, seed=1)

        def reached(**kwargs: Any) -> float:
            predictor = self.make()
            predictor.fit(rows, wrong, **kwargs)
            return Agreement.of(predictor.predict(unseen)[0], truth).spearman

        assert reached(weights=weights) > reached()

    def test_file_holds_everything(self, tmp_path: Path):
        predictor = self.fitted()
        predictor.save(tmp_path / 'p.npz')
        assert [p.name for p in tmp_path.iterdir()] == ['p.npz']
        loaded = Predictor.load(tmp_path / 'p.npz', self.space())
        assert type(loaded) is type(predictor)
        assert loaded.options == predictor.options
        assert loaded.agreement == predictor.agreement
        rows, _ = self.data(10, seed=2)
        for a, b in zip(loaded.predict(rows), predictor.predict(rows)):
            assert torch.equal(a, b)

    def test_equal_scores_and_few_labels(self):
        rows, scores = self.data(4)
        predictor = self.make()
        predictor.fit(rows, np.ones(4))
        mean, _ = predictor.predict(rows)
        torch.testing.assert_close(mean, torch.ones(4, dtype=torch.float64))
        predictor.fit(rows, scores)
        assert torch.isfinite(predictor.predict(rows)[0]).all()

    def test_columns_that_never_vary(self):
        space = toy_space((2, 4, 8), (2, 4, 8), prune=False)
        rows, scores = self.data(20)
        rows[:, space.widths] = space.highest[space.widths]
        predictor = self.make(space)
        predictor.fit(rows, scores)
        assert torch.isfinite(predictor.predict(rows)[0]).all()

    def test_bad_labels_are_refused(self):
        rows, scores = self.data(10)
        predictor = self.make()
        with pytest.raises(PredictorError, match='call fit'):
            predictor.predict(rows)
        with pytest.raises(PredictorError, match='at least'):
            predictor.fit(rows[:2], scores[:2])
        scores[3] = np.nan
        with pytest.raises(PredictorError, match='finite'):
            predictor.fit(rows, scores)
