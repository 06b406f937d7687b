"""An exact Gaussian process: the predictor that searches use by default."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...options import Count, Natural
from ...policy import SearchSpace
from ...registry import PREDICTORS
from .base import Predictor

GROUPS = 3
PRIOR_STD = 3.0
JITTER = 1e-6


@PREDICTORS.register_module()
class GPPredictor(Predictor):
    """A linear trend plus a smooth remainder, each weighing kinds of columns.

    The kernel is ``a . x x' + b exp(-|x - x'|_c^2 / 2) + constant``, with one
    weight ``a`` and one inverse length ``c`` for widths, weight bits and activation
    bits each. With few labels it is a ridge regression whose penalty differs
    between the kinds; with more the remainder learns how the losses of layers
    combine. The hyperparameters maximise the marginal likelihood (Rasmussen &
    Williams 2006, eq. 5.8) under a wide normal prior on their logarithms;
    cross-validation leaves one out in closed form (their eq. 5.12).

    Args:
        space, seed: See :class:`Predictor`; nothing is drawn.
        iterations (int): Steps of L-BFGS. Defaults to 40.
    """

    def __init__(
        self, space: SearchSpace, seed: Natural = 0, iterations: Count = 40
    ) -> None:
        super().__init__(space, seed)
        self.iterations = iterations
        counts = torch.bincount(self.features.group, minlength=GROUPS)
        self._share = 1 / counts.clamp_min(1).double()[self.features.group]

    @property
    def options(self) -> dict[str, Any]:
        """See :attr:`Predictor.options`."""
        return dict(super().options, iterations=self.iterations)

    def _fit(self, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        logs = self._most_likely(x, y, weight)
        with torch.no_grad():
            factor = self._factor(logs, x, weight)
            inverse = torch.cholesky_inverse(factor)
            alpha = inverse @ y
            linear, _, lengths, constant, _ = self._unpack(logs)
            self.state = dict(
                x=x * lengths, alpha=alpha, factor=factor, logs=logs,
                trend=linear * (x.T @ alpha), bias=constant * alpha.sum())
            return y - alpha / inverse.diagonal()

    def _most_likely(self, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """Logarithms of the hyperparameters."""
        start = torch.tensor(
            [0.0] * GROUPS + [-1.5] * GROUPS + [-2.0, -2.0, -1.0], dtype=x.dtype)
        logs = start.clone().requires_grad_()
        optimiser = torch.optim.LBFGS(
            [logs], max_iter=self.iterations, line_search_fn='strong_wolfe')

        def loss() -> Tensor:
            optimiser.zero_grad()
            # Far from the prior a step of the line search could overflow.
            factor = self._factor(logs.clamp(-12, 12), x, weight)
            alpha = torch.cholesky_solve(y[:, None], factor)[:, 0]
            likelihood = y @ alpha / 2 + factor.diagonal().log().sum()
            value = likelihood + (((logs - start) / PRIOR_STD) ** 2).sum() / 2
            value.backward()
            return value

        optimiser.step(loss)
        return logs.detach().clamp(-12, 12)

    def _unpack(self, logs: Tensor) -> tuple[Tensor, ...]:
        """Per-feature trend weight, remainder, lengths ``(F,)``, constant, noise."""
        group = self.features.group
        linear = logs[:GROUPS].exp()[group] * self._share
        lengths = (logs[GROUPS:2 * GROUPS].exp()[group] * self._share).sqrt()
        remainder, constant, noise = logs[2 * GROUPS:].exp()
        return linear, remainder, lengths, constant, noise

    def _factor(self, logs: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """Cholesky factor of the labels' covariance; light labels are noisier."""
        linear, remainder, lengths, constant, noise = self._unpack(logs)
        smooth = remainder * _gaussian(x * lengths, x * lengths)
        covariance = (x * linear) @ x.T + smooth + constant
        return torch.linalg.cholesky(
            covariance + torch.diag((noise + JITTER) / weight))

    def _mean(self, x: Tensor) -> Tensor:
        _, remainder, lengths, *_ = self._unpack(self.state['logs'])
        smooth = remainder * _gaussian(x * lengths, self.state['x'])
        return x @ self.state['trend'] + smooth @ self.state['alpha'] \
            + self.state['bias']

    def _std(self, x: Tensor) -> Tensor:
        known = self.state['x']
        linear, remainder, lengths, constant, _ = self._unpack(self.state['logs'])
        cross = (x * (linear / lengths)) @ known.T \
            + remainder * _gaussian(x * lengths, known) + constant
        solved = torch.linalg.solve_triangular(
            self.state['factor'], cross.T, upper=False)
        prior = (x * x * linear).sum(-1) + remainder + constant
        return (prior - (solved ** 2).sum(0)).clamp_min(1e-12).sqrt()


def _gaussian(a: Tensor, b: Tensor) -> Tensor:
    """``exp(-|a - b|^2 / 2)`` of all pairs, ``(N, M)``."""
    squared = (a * a).sum(-1)[:, None] + (b * b).sum(-1) - 2 * a @ b.T
    return torch.exp(-squared.clamp_min(0) / 2)
