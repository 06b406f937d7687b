"""A policy as a predictor sees it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...policy import SearchSpace

KINDS = WIDTHS, WEIGHT_BITS, ACTIVATION_BITS = range(3)


class PolicyFeatures:
    """Turns rows into standardised features, one per column with a choice.

    A width becomes the logarithm of the kept share, bits b become ``4 ** -b``, the
    variance of the rounding error relative to the range. On released labels a
    model linear in these ranks policies better than a tuned network does on
    ratios and bits (docs/measurements/seernet.md). Each feature has mean 0 and
    variance 1 over the choices of its column, whatever the labels, so that nothing
    needs storing.

    Args:
        space (SearchSpace): Gives the meaning of a row.

    Attributes:
        group (Tensor): ``(F,)``, whether a feature is a width, weight bits or
            activation bits.
    """

    def __init__(self, space: SearchSpace) -> None:
        kind = np.empty(len(space), int)
        for part, number in zip(space.split(kind), KINDS):
            part[:] = number
        self._free = torch.from_numpy(space.free)
        self.group = torch.from_numpy(kind[space.free])
        self._dense = torch.from_numpy(space.highest[space.free]).double()
        self._is_width = self.group == WIDTHS
        self._mean = torch.zeros(len(self._free), dtype=torch.float64)
        self._std = torch.ones(len(self._free), dtype=torch.float64)
        # Through the same formula, one column's choices at a time.
        ends = [space.choices[i] for i in space.free]
        seen = [self._raw(torch.tensor(c).double()[:, None].expand(-1, len(ends)))[:, i]
                for i, c in enumerate(ends)]
        for i, values in enumerate(seen):
            self._mean[i] = values.mean()
            self._std[i] = values.std(correction=0)

    def __len__(self) -> int:
        return len(self._free)

    def __call__(self, rows: Tensor | np.ndarray) -> Tensor:
        """Features of rows ``(..., len(space))``: float64, ``(..., F)``.

        Differentiable in real-valued rows.
        """
        values = torch.as_tensor(rows).to(torch.float64)[..., self._free]
        return (self._raw(values) - self._mean) / self._std

    def _raw(self, values: Tensor) -> Tensor:
        # A where passes gradients of both branches, so each gets harmless input.
        one = torch.ones((), dtype=torch.float64)
        keep = torch.where(self._is_width, values / self._dense, one).log()
        noise = torch.exp2(-2 * torch.where(self._is_width, one, values))
        return torch.where(self._is_width, keep, noise)
