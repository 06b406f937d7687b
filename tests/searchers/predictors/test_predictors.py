"""Every predictor keeps the contract; each has something of its own."""

import numpy as np
import pytest
import torch

from mmcompress.errors import CompressionError, PredictorError
from mmcompress.policy import SearchSpace
from mmcompress.searchers.predictors import (
    GPPredictor,
    MLPEnsemblePredictor,
    PolicyFeatures,
    Predictor,
    RidgePredictor,
)
from mmcompress.testing import PredictorContract, toy_space


class TestRidge(PredictorContract):
    predictor = RidgePredictor

    def test_recovers_a_linear_score(self):
        rows, _ = self.data(self.labels)
        predictor = self.make(penalties=[1e-9])
        x = predictor.features(rows)
        truth = torch.linspace(-1, 1, x.shape[1], dtype=torch.float64)
        predictor.fit(rows, x @ truth + 3)
        other, _ = self.data(20, seed=9)
        torch.testing.assert_close(
            predictor.predict(other)[0], predictor.features(other) @ truth + 3,
            rtol=1e-6, atol=1e-6)


class TestGP(PredictorContract):
    predictor = GPPredictor

    def test_is_surer_near_its_labels(self):
        predictor = self.fitted()
        known, _ = self.data(self.labels)
        unknown, _ = self.data(self.labels, seed=4)
        assert predictor.predict(known)[1].mean() < \
            0.9 * predictor.predict(unknown)[1].mean()


class TestMLPEnsemble(PredictorContract):
    predictor = MLPEnsemblePredictor
    options = dict(members=5, steps=150)

    def test_one_network_is_no_ensemble(self):
        with pytest.raises(CompressionError, match=r'members of .* of at least 2'):
            self.make(members=1)


def test_features_by_hand():
    # One unit of 1, 2 or 4 channels, one layer of 1 or 2 bits, float activations.
    space = SearchSpace(('u',), ('l',), ((1, 2, 4), (1, 2), (32,)))
    features = PolicyFeatures(space)
    assert len(features) == 2
    # log keep: -2 log 2, -log 2, 0, so mean -log 2 and variance 2 / 3 log(2)^2.
    # 4^-b: 1/4 and 1/16, which standardise to 1 and -1.
    expected = torch.tensor([[-1.5 ** 0.5, 1], [0, -1], [1.5 ** 0.5, 1]]).double()
    rows = np.array([[1, 1, 32], [2, 2, 32], [4, 1, 32]])
    torch.testing.assert_close(features(rows), expected, rtol=1e-6, atol=1e-6)


def test_files_that_do_not_fit_are_refused(tmp_path):
    space = toy_space((2, 4, 8))
    rng = np.random.default_rng(0)
    rows = np.array([[rng.choice(c) for c in space.choices] for _ in range(9)])
    predictor = RidgePredictor(space)
    predictor.fit(rows, rng.random(9))
    predictor.save(tmp_path / 'p.npz')
    with pytest.raises(PredictorError, match='another search space'):
        Predictor.load(tmp_path / 'p.npz', toy_space((4, 8)))
    with pytest.raises(PredictorError, match='no predictor'):
        Predictor.load(tmp_path / 'none.npz', space)
    (tmp_path / 'bad.npz').write_bytes(b'not a zip')
    with pytest.raises(PredictorError, match='cannot be read'):
        Predictor.load(tmp_path / 'bad.npz', space)
    np.savez(tmp_path / 'other.npz', header=np.array('{"format": "x"}'))
    with pytest.raises(PredictorError, match='not a predictor'):
        Predictor.load(tmp_path / 'other.npz', space)
