"""Means and covariances of rows that come in parts."""

from __future__ import annotations

import torch
from torch import Tensor


class Sums:
    """Mean and covariance of all rows so far, in double precision.

    Every part is centred before it is multiplied, so that products in the precision of
    the rows are exact enough; parts are put together as by Chan et al., 1979. Small
    parts wait for others, as adding a product up takes as long as that of K rows.

    Args:
        rows (Tensor): Rows like those to come, ``(..., n, K)``; leading axes are kept
            apart. They are not added.
    """

    def __init__(self, rows: Tensor) -> None:
        *groups, _, size = rows.shape
        self._mean = rows.new_zeros(*groups, size).double()
        self._squares = rows.new_zeros(*groups, size, size).double()
        self._summed = 0
        self._waiting: list[Tensor] = []
        self.count = 0

    def add(self, rows: Tensor) -> None:
        """Add ``(..., n, K)``."""
        self._waiting.append(rows)
        self.count += rows.shape[-2]
        if self.count - self._summed >= rows.shape[-1]:
            self._sum()

    def _sum(self) -> None:
        """Add up what waits."""
        if not self._waiting:
            return
        rows, self._waiting = torch.cat(self._waiting, -2), []
        number, total = self.count - self._summed, self.count
        mean = rows.double().mean(-2)
        rows = (rows - mean[..., None, :]).to(rows)
        self._squares += rows.mT @ rows
        change = mean - self._mean
        self._squares += change[..., :, None] * change[..., None, :] * (
            self._summed * number / total)
        self._mean += change * (number / total)
        self._summed = total

    @property
    def mean(self) -> Tensor:
        """``(..., K)``."""
        self._sum()
        return self._mean

    @property
    def covariance(self) -> Tensor:
        """``(..., K, K)``."""
        self._sum()
        return self._squares / self.count
