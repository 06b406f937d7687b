"""Ranges of the 8-bit points that only the runtime needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import onnx
from onnx import helper

from .plan import Point
from .runtimes import OnnxRuntime

SAMPLES = 32768
"""Values kept of a tensor, beside the extremes of every image."""

SHRINK = np.geomspace(1.0, 0.02, 40)
"""Shares of each end of the observed range that are tried. Convolutions reach far below
what a SiLU lets through."""

Function = Callable[[np.ndarray], np.ndarray]


def silu(x: np.ndarray) -> np.ndarray:
    """``x sigmoid(x)``."""
    return x / (1 + np.exp(-x))


def sample_tensors(
    proto: onnx.ModelProto, names: Iterable[str], images: Sequence[np.ndarray],
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Values that tensors of a network take on images.

    Args:
        proto (onnx.ModelProto): The network in float.
        names (Iterable[str]): Tensors to look at.
        images (Sequence[np.ndarray]): Inputs, each a batch that the network takes.
        seed (int): Seed of the choice of values.

    Returns:
        dict[str, np.ndarray]: Per tensor a random sample of its values and the
        smallest and largest of every image.
    """
    names = list(names)
    if not names:
        return {}
    probe = onnx.ModelProto()
    probe.CopyFrom(proto)
    del probe.graph.output[:]
    probe.graph.output.extend(helper.make_empty_tensor_value_info(n) for n in names)
    runtime = OnnxRuntime(probe.SerializeToString())
    rng = np.random.default_rng(seed)
    count = -(-SAMPLES // len(images))
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for image in images:
        for name, value in zip(names, runtime(image)):
            value = value.ravel()
            chosen = value[rng.integers(0, value.size, count)]
            found[name].append(np.append(chosen, [value.min(), value.max()]))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def point_of_range(low: float, high: float, bits: int = 8) -> Point:
    """The affine point whose integers span a range, 0 included."""
    low, high = min(low, 0.0), max(high, 0.0)
    levels = 2 ** bits - 1
    scale = max((high - low) / levels, 1e-8)
    return Point(float(np.float32(scale)), int(np.clip(round(-low / scale), 0, levels)),
                 bits)


def rounded(values: np.ndarray, point: Point) -> np.ndarray:
    """Values as the integers of a point stand for them."""
    integers = np.round(values / point.scale) + point.zero_point
    return (integers.clip(0, 2 ** point.bits - 1) - point.zero_point) * point.scale


def best_point(values: np.ndarray, function: Function | None = None) -> Point:
    """The 8-bit point with the smallest squared error.

    Args:
        values (np.ndarray): A sample with its extremes.
        function (Callable | None): Applied to the tensor by the network: the error
            counts behind it. A SiLU hardly depends on how negative its input is, so
            that its range may be cut there. Defaults to the identity.

    Returns:
        Point: Found by shrinking the two ends of the range in turns.
    """
    values = values.astype(np.float64)
    wanted = values if function is None else function(values)

    def error(ends: tuple[float, float]) -> float:
        got = rounded(values, point_of_range(*ends))
        return float(np.mean(((got if function is None else function(got)) - wanted)
                             ** 2))

    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    ends = low, high
    for _ in range(2):
        ends = min(((low * k, ends[1]) for k in SHRINK), key=error)
        ends = min(((ends[0], high * k) for k in SHRINK), key=error)
    return point_of_range(*ends)
