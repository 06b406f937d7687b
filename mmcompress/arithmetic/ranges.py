"""Ranges of quantisers: from values to a scale (and a zero point)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import CompressionError
from .quantizers import EPSILON

OBSERVERS = ('minmax', 'percentile', 'mse', 'output')
SIGNED = 'signed'
"""Symmetric ranges whose zero point is in the middle, also of values that are never
negative: what runtimes need that have activations in INT8 alone."""
Symmetric = bool | Literal[SIGNED]
PERCENTILE = 99.99
"""Share of the values, in percent, that the percentile observer keeps inside."""
WEIGHT_CANDIDATES = np.linspace(0.3, 1.0, 36)
"""Shares of a channel's largest weight that are tried as its range."""
SHARES = np.geomspace(0.02, 1.0, 24)
"""Shares of an activation's extremes that are tried as its range."""
CHUNK = 2 ** 22
"""Elements of a temporary while candidates are compared."""


def check_observer(observer: str) -> None:
    """Raise :class:`CompressionError` for an unknown observer."""
    if observer not in OBSERVERS:
        raise CompressionError(
            f'Unknown observer {observer!r}; choose one of {", ".join(OBSERVERS)}.')


@torch.no_grad()
def weight_scales(rows: Tensor, bits: int, observer: str = 'mse') -> Tensor:
    """A symmetric scale for every output channel, independent of the others.

    The squared errors are summed in float64, so the order of the weights in a
    channel does not decide between candidates.

    Args:
        rows (Tensor): ``(C, K)`` weights by output channel.
        bits (int): Bit width.
        observer (str): ``'minmax'``: the largest weight is the largest integer;
            otherwise the candidate of least squared error.

    Returns:
        Tensor: ``(C,)``.
    """
    top = 2 ** (bits - 1) - 1
    largest = (rows.abs().amax(1) / top).clamp_min(EPSILON)
    if observer == 'minmax':
        return largest
    shares = torch.as_tensor(WEIGHT_CANDIDATES, device=rows.device).to(rows)
    per_chunk = max(1, CHUNK // (len(shares) * max(1, rows.shape[1])))
    scales = []
    for part, high in zip(rows.split(per_chunk), largest.split(per_chunk)):
        tried = (high[:, None] * shares)[:, :, None]
        error = torch.div(part[:, None], tried).round_().clamp_(-top, top)
        error = error.mul_(tried).sub_(part[:, None]).square_()
        best = error.sum(-1, dtype=torch.float64).argmin(1)
        scales.append(high * shares[best])
    return torch.cat(scales)


@dataclass(frozen=True, eq=False)
class Sample:
    """Values of a tensor, each standing for ``weights`` of them.

    Args:
        values (np.ndarray): ``(n,)`` ascending float64, with the extremes.
        weights (np.ndarray): ``(n,)``; for ``'output'`` times what an error of the
            value adds to the outputs of the layers that read it.
    """

    values: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, parts: list[tuple[Tensor, Tensor | float]]) -> Sample:
        """Join drawn values, each part with what its values stand for."""
        values = np.concatenate([p.double().cpu().numpy() for p, _ in parts])
        weights = np.concatenate([np.broadcast_to(
            np.asarray(torch.as_tensor(w).cpu()), len(p)) for p, w in parts])
        order = np.argsort(values, kind='stable')
        return cls(values[order], weights[order])


def activation_range(
    sample: Sample, bits: int, observer: str = 'mse', symmetric: Symmetric = False
) -> tuple[float, float]:
    """Scale and zero point of an activation, for integers ``0 .. 2^bits - 1``.

    Zero is always a point of the grid: padding stays exact.

    Args:
        sample (Sample): Its values.
        bits (int): Bit width.
        observer (str): See :data:`OBSERVERS`. ``'mse'`` tries pairs of shares of
            the extremes and takes the one of least squared error on the sample;
            ``'output'`` likewise, on a sample weighed by what errors add to outputs.
        symmetric (bool | str): The zero point is the middle of the range, or 0 for
            values that are never negative; with :data:`SIGNED` the middle for those,
            too. Defaults to False.

    Returns:
        tuple[float, float]: Scale and integer zero point.
    """
    check_observer(observer)
    low, high = min(sample.values[0], 0.0), max(sample.values[-1], 0.0)
    if observer == 'percentile':
        low, high = _percentiles(sample, low, high)
    shares = SHARES if observer in ('mse', 'output') else np.ones(1)
    middle = symmetric == SIGNED or (symmetric and sample.values[0] < 0)
    if middle:
        high = np.maximum(-low, high) * shares
        low = -high
    elif low < 0 < high:
        low, high = (x.ravel() for x in np.meshgrid(low * shares, high * shares))
    else:
        low, high = low * shares, high * shares
    top = 2 ** bits - 1
    scale = np.maximum((high - low) / top, EPSILON)
    zero = np.full_like(scale, 2 ** (bits - 1)) if middle else np.round(-low / scale)
    best = int(np.argmin(_errors(sample, scale, zero, top))) if len(scale) > 1 else 0
    return float(scale[best]), float(zero[best])


def _percentiles(sample: Sample, low: float, high: float) -> tuple[float, float]:
    below = np.cumsum(sample.weights) / sample.weights.sum()
    outside = 1 - PERCENTILE / 100
    first = np.searchsorted(below, outside)
    last = min(np.searchsorted(below, 1 - outside), len(below) - 1)
    return max(low, min(sample.values[first], 0)), min(high, max(
        sample.values[last], 0))


def _errors(sample: Sample, scale: np.ndarray, zero: np.ndarray, top: int
            ) -> np.ndarray:
    """Squared error of every candidate, exact on the sample, ``(candidates,)``.

    The values that share an integer are consecutive, so prefix sums of their
    powers give the error of each integer without touching the values again.
    """
    powers = np.stack([sample.weights * sample.values ** p for p in range(3)])
    sums = np.concatenate([np.zeros((3, 1)), powers.cumsum(1)], 1)
    integers = np.arange(top + 1) - zero[:, None]
    edges = (integers[:, :-1] + 0.5) * scale[:, None]
    cuts = np.searchsorted(sample.values, edges)
    ends = np.zeros((len(cuts), 1), int)
    cuts = np.concatenate([ends, cuts, ends + len(sample.values)], 1)
    count, first, second = np.diff(sums[:, cuts], axis=2)
    point = integers * scale[:, None]
    return (second - 2 * point * first + point ** 2 * count).sum(1)
