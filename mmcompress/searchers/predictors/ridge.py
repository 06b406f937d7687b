"""A linear predictor: few labels are enough for a rough order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...options import Natural, Positive
from ...policy import SearchSpace
from ...registry import PREDICTORS
from .base import Predictor

PENALTIES = tuple(10.0 ** (e / 2) for e in range(-4, 9))


@PREDICTORS.register_module()
class RidgePredictor(Predictor):
    """Ridge regression on the features.

    The penalty is the one with the smallest leave-one-out error, which follows in
    closed form from one eigendecomposition (Golub, Heath & Wahba 1979). The
    standard deviation is that of the Bayesian linear model with this penalty.

    Args:
        space, seed: See :class:`Predictor`.
        penalties (Sequence[float]): Penalties to choose from.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: Natural = 0,
        penalties: Sequence[Positive] = PENALTIES,
    ) -> None:
        super().__init__(space, seed)
        self.penalties = tuple(penalties)

    @property
    def options(self) -> dict[str, Any]:
        """See :attr:`Predictor.options`."""
        return dict(super().options, penalties=list(self.penalties))

    def _fit(self, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        # The weighted mean of y is 0, so that centring x leaves no intercept.
        share = weight / weight.sum()
        center = share @ x
        root = weight.sqrt()[:, None]
        design, target = (x - center) * root, y * root[:, 0]
        left, singular, right = torch.linalg.svd(design, full_matrices=False)
        power = singular ** 2
        best = None
        for penalty in self.penalties:
            shrink = power / (power + penalty)
            fitted = left @ (shrink * (left.T @ target))
            leverage = (left ** 2 * shrink).sum(1) + share
            residual = (target - fitted) / (1 - leverage).clamp_min(1e-9)
            error = float((residual ** 2).mean())
            if best is None or error < best[0]:
                best = error, penalty, residual
        error, penalty, residual = best
        # Directions without any label keep the variance of the prior.
        shrunk = power / (power + penalty) / penalty
        prior = torch.eye(x.shape[1], dtype=x.dtype) / penalty
        self.state = dict(
            center=center,
            coefficients=right.T @ (singular / (power + penalty) * (left.T @ target)),
            covariance=(prior - (right.T * shrunk) @ right) * error,
            floor=torch.tensor(error / len(y) + 1e-18, dtype=x.dtype))
        return y - residual / root[:, 0]

    def _mean(self, x: Tensor) -> Tensor:
        return (x - self.state['center']) @ self.state['coefficients']

    def _std(self, x: Tensor) -> Tensor:
        x = x - self.state['center']
        variance = ((x @ self.state['covariance']) * x).sum(-1).clamp_min(0)
        return (variance + self.state['floor']).sqrt()
