"""Ranges of the 8-bit points that only the runtime needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from ...arithmetic.ranges import Sample
from ..runtimes import probe
from .plan import QuantPoint

BINS = 2048
"""Bins of a tensor's values of either sign. Their edges are squares: fine near 0, where
most values are."""

SHRINK = np.geomspace(1.0, 0.02, 40)
"""Shares of each end of the observed range that are tried. Convolutions reach far below
what a SiLU lets through."""

Function = Callable[[np.ndarray], np.ndarray]


def silu(x: np.ndarray) -> np.ndarray:
    """``x sigmoid(x)``."""
    return x / (1 + np.exp(-x))


def observe_tensors(
    model: ir.Model, values: Sequence[ir.Value], images: Sequence[np.ndarray]
) -> dict[ir.Value, Sample]:
    """All values that tensors of a network take on images, binned.

    Args:
        model (ir.Model): The network in float.
        values (Sequence[ir.Value]): Tensors to look at.
        images (Sequence[np.ndarray]): Inputs, each a batch that the network takes.

    Returns:
        dict[ir.Value, Sample]: Per tensor the mean of every bin that is not empty, with
        the number of its values, and the extremes with none.
    """
    if not values:
        return {}
    run = probe(model, values)
    low, high = np.zeros((2, len(values)))
    for image in images:
        for i, x in enumerate(run(image)):
            low[i], high[i] = min(low[i], x.min()), max(high[i], x.max())
    largest = np.maximum(np.maximum(-low, high), 1e-30).astype(np.float32)
    counts, sums = np.zeros((2, len(values), 2 * BINS + 1))
    for image in images:
        for i, x in enumerate(run(image)):
            x = x.ravel()
            share = np.copysign(np.sqrt(np.abs(x) / largest[i]), x)
            bins = np.rint(share * BINS).astype(np.int64) + BINS
            counts[i] += np.bincount(bins, minlength=2 * BINS + 1)
            sums[i] += np.bincount(bins, x, 2 * BINS + 1)
    found = {}
    for i, value in enumerate(values):
        seen = counts[i] > 0
        means = sums[i, seen] / counts[i, seen]
        found[value] = Sample(
            np.concatenate([low[i:i + 1], means, high[i:i + 1]]),
            np.concatenate([[0.0], counts[i, seen], [0.0]]))
    return found


def point_of_range(low: float, high: float, bits: int = 8) -> QuantPoint:
    """The affine point whose integers span a range, 0 included."""
    low, high = min(low, 0.0), max(high, 0.0)
    levels = 2 ** bits - 1
    scale = max((high - low) / levels, 1e-8)
    zero_point = int(np.clip(round(-low / scale), 0, levels))
    return QuantPoint(float(np.float32(scale)), zero_point, bits)


def rounded(values: np.ndarray, point: QuantPoint) -> np.ndarray:
    """Values as the integers of a point stand for them."""
    integers = np.round(values / point.scale) + point.zero_point
    return (integers.clip(0, 2 ** point.bits - 1) - point.zero_point) * point.scale


def best_point(sample: Sample, function: Function | None = None) -> QuantPoint:
    """The 8-bit point with the smallest squared error.

    Args:
        sample (Sample): Values of the tensor.
        function (Callable | None): Applied to the tensor by the network: the error
            counts behind it. A SiLU hardly depends on how negative its input is, so
            that its range may be cut there. Defaults to the identity.

    Returns:
        QuantPoint: Found by shrinking the two ends of the range in turns.
    """
    values, weights = sample.values, sample.weights
    wanted = values if function is None else function(values)

    def error(ends: tuple[float, float]) -> float:
        got = rounded(values, point_of_range(*ends))
        lost = (got if function is None else function(got)) - wanted
        return float(weights @ lost ** 2)

    low, high = min(float(values[0]), 0.0), max(float(values[-1]), 0.0)
    ends = low, high
    for _ in range(2):
        ends = min(((low * k, ends[1]) for k in SHRINK), key=error)
        ends = min(((ends[0], high * k) for k in SHRINK), key=error)
    return point_of_range(*ends)
