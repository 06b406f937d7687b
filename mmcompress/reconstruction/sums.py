"""Means and covariances of rows that come in parts."""

from __future__ import annotations

from torch import Tensor


class Sums:
    """Mean and covariance of all rows so far, in double precision.

    Every part is centred before it is multiplied, so that products in the precision of
    the rows are exact enough; parts are put together as by Chan et al., 1979.

    Args:
        rows (Tensor): Rows like those to come, ``(..., n, K)``; leading axes are kept
            apart. They are not added.
    """

    def __init__(self, rows: Tensor) -> None:
        *groups, _, size = rows.shape
        self.mean = rows.new_zeros(*groups, size).double()
        self.squares = rows.new_zeros(*groups, size, size).double()
        self.count = 0

    def add(self, rows: Tensor) -> None:
        """Add ``(..., n, K)``."""
        number = rows.shape[-2]
        mean = rows.double().mean(-2)
        rows = (rows - mean[..., None, :]).to(rows)
        self.squares += rows.mT @ rows
        change, total = mean - self.mean, self.count + number
        self.squares += change[..., :, None] * change[..., None, :] * (
            self.count * number / total)
        self.mean += change * (number / total)
        self.count = total

    @property
    def covariance(self) -> Tensor:
        """``(..., K, K)``."""
        return self.squares / self.count
