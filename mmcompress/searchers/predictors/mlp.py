"""An ensemble of small networks, trained side by side in one batch."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...options import Count, Natural, NotNegative, Positive, Within
from ...policy import SearchSpace
from ...registry import PREDICTORS
from .base import Predictor
from .ridge import RidgePredictor


@PREDICTORS.register_module()
class MLPEnsemblePredictor(Predictor):
    """Networks ``F - hidden - hidden - 1`` with ELU, as SeerNet's, but several.

    Each learns what a ridge regression on the same labels leaves over, and starts
    from 0, so that what decays is the deviation from a linear predictor.

    Every member leaves out another part of the labels, so that the members differ
    by more than their start, and the left-out labels are predictions never fitted
    (with all but 1 / members of the labels, by one member: a little pessimistic
    for the ensemble). All members are one batched matrix product.

    Args:
        space, seed: See :class:`Predictor`.
        members (int): Networks. Defaults to 10.
        hidden (int): Width of both hidden layers. Defaults to 15.
        steps (int): Full-batch steps of AdamW. Defaults to 200.
        lr (float): Peak learning rate; it follows a cosine. Defaults to 0.05.
        weight_decay (float): Decoupled decay. Defaults to 10.0.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: Natural = 0,
        members: Annotated[int, Within(2)] = 10,
        hidden: Count = 15,
        steps: Annotated[int, Within(2)] = 200,
        lr: Positive = 0.05,
        weight_decay: NotNegative = 10.0,
    ) -> None:
        super().__init__(space, seed)
        self.members, self.hidden, self.steps = members, hidden, steps
        self.lr, self.weight_decay = lr, weight_decay

    @property
    def options(self) -> dict[str, Any]:
        """See :attr:`Predictor.options`."""
        return dict(
            super().options, members=self.members, hidden=self.hidden,
            steps=self.steps, lr=self.lr, weight_decay=self.weight_decay)

    def _fit(self, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        fold = torch.arange(len(y)) % self.members
        fold = fold[torch.randperm(len(y), generator=generator)]
        seen = (fold != torch.arange(self.members)[:, None]) * weight
        seen = seen / seen.sum(1, keepdim=True)
        trend = self._trend(x, y, weight, fold)
        rest = y - _linear(trend, x)
        params = self._start(x.shape[1], generator)
        for value in params.values():
            value.requires_grad_()
        optimiser = torch.optim.AdamW(
            params.values(), lr=self.lr, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, self.lr, self.steps, pct_start=0.1)
        for _ in range(self.steps):
            optimiser.zero_grad()
            loss = (seen * (_deviation(params, x) - rest) ** 2).sum()
            loss.backward()
            optimiser.step()
            schedule.step()
        self.state = {**trend, **{k: v.detach() for k, v in params.items()}}
        with torch.no_grad():
            return _forward(self.state, x)[fold, torch.arange(len(y))]

    def _trend(
        self, x: Tensor, y: Tensor, weight: Tensor, fold: Tensor
    ) -> dict[str, Tensor]:
        """Each member's ridge regression: slopes ``(members, F, 1)`` and levels."""
        slopes, levels = [], []
        for member in range(self.members):
            mine = fold != member
            level = (weight[mine] * y[mine]).sum() / weight[mine].sum()
            ridge = RidgePredictor(self.space)
            ridge._fit(x[mine], y[mine] - level, weight[mine])
            slopes.append(ridge.state['coefficients'])
            levels.append(level - ridge.state['center'] @ slopes[-1])
        return dict(slope=torch.stack(slopes)[..., None],
                    level=torch.stack(levels)[:, None])

    def _start(self, features: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Weights ``(members, in, out)`` and biases ``(members, 1, out)``."""
        params = {}
        sizes = [features, self.hidden, self.hidden, 1]
        for i, (into, out) in enumerate(pairwise(sizes)):
            draw = torch.randn(
                self.members, into, out, generator=generator, dtype=torch.float64)
            params[f'weight{i}'] = draw * (i < 2) / max(into, 1) ** 0.5
            params[f'bias{i}'] = torch.zeros(
                self.members, 1, out, dtype=torch.float64)
        return params

    def _mean(self, x: Tensor) -> Tensor:
        return _forward(self.state, x).mean(0)

    def _std(self, x: Tensor) -> Tensor:
        return (_forward(self.state, x).var(0) + 1e-18).sqrt()


def _forward(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """Outputs ``(members, N)``."""
    return _linear(state, x) + _deviation(state, x)


def _linear(trend: dict[str, Tensor], x: Tensor) -> Tensor:
    return (x @ trend['slope'])[..., 0] + trend['level']


def _deviation(params: dict[str, Tensor], x: Tensor) -> Tensor:
    hidden = x.expand(len(params['bias0']), *x.shape)
    for i in range(3):
        hidden = torch.baddbmm(params[f'bias{i}'], hidden, params[f'weight{i}'])
        hidden = F.elu(hidden) if i < 2 else hidden
    return hidden[..., 0]
