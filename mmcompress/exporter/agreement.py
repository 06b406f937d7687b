"""Whether a file computes what its network computes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from ..errors import ExportError
from .editing import to_bytes
from .parts import Part
from .runtimes import OnnxRuntime

TOLERANCE = 1e-3
"""Largest difference from the model, relative to the largest output, in float."""

FLOAT16_TOLERANCE = 2e-2
"""The same for a network in float16, whose numbers have 11 bits."""

QUANTISED_TOLERANCE = 0.5
"""Largest root mean square difference from the fake-quantised model, relative to the
spread of an output. It guards against wrong numbers; what the 8-bit points between
layers cost is for the metric to say."""

EDGE = 1e-3
"""Share of scores that may be selected by a file or its network alone."""

COMPARED = 4
"""Calibration images that a quantised file is compared on."""


def compare(
    model: ir.Model, part: Part, tolerance: float, boxes: bool = False
) -> float:
    """Largest relative difference between a file and its network.

    Args:
        model (ir.Model): The file.
        part (Part): Its network.
        tolerance (float): The largest that is allowed.
        boxes (bool): Whether the network selects scores; see
            :func:`without_edge`. Defaults to False.

    Raises:
        ExportError: It exceeds ``tolerance``.
    """
    with torch.no_grad():
        wanted = [x.numpy() for x in part.network(*part.inputs)]
    got = OnnxRuntime(to_bytes(model))(*map(Tensor.numpy, part.inputs))
    if boxes:
        got = without_edge(got, wanted)
    error = max(relative_error(a, b) for a, b in zip(got, wanted))
    if not error <= tolerance:
        raise ExportError(
            f'The exported {part.name or "network"} differs from the model by '
            f'{error:.2g} of its largest output (tolerance {tolerance:.2g}); nothing '
            'was written.')
    return error


def compare_quantised(
    model: ir.Model, part: Part, images: Sequence[np.ndarray],
    tolerance: float = QUANTISED_TOLERANCE,
) -> float:
    """Root mean square difference of a file from the fake-quantised network.

    Args:
        model (ir.Model): The quantised file.
        part (Part): Its network, quantisers on.
        images (Sequence[np.ndarray]): The first few are used.
        tolerance (float): The largest that is allowed. Defaults to
            :data:`QUANTISED_TOLERANCE`.

    Returns:
        float: Relative to the spread of the outputs, the worst of them.

    Raises:
        ExportError: It exceeds ``tolerance``.
    """
    runtime = OnnxRuntime(to_bytes(model), integers=False)
    pairs = []
    for image in images[:COMPARED]:
        with torch.no_grad():
            wanted = part.network(torch.from_numpy(image))
        pairs.append(list(zip(runtime(image), [x.numpy() for x in wanted])))
    worst = 0.0
    for output in zip(*pairs):
        got, wanted = (np.stack(x).astype(np.float64) for x in zip(*output))
        spread = max(float(wanted.std()), 1e-12)
        worst = max(worst, float(np.sqrt(np.mean((got - wanted) ** 2))) / spread)
    if not worst <= tolerance:
        raise ExportError(
            f'The quantised {part.name or "network"} differs from the fake-quantised '
            f'model by {worst:.2g} of the spread of an output (tolerance '
            f'{tolerance:g}); nothing was written. Calibrate on images like those it '
            'will see. If the policy has few bits, allow more (--tolerance) and see '
            'what tools/test.py --backend says of the file.')
    return worst


def without_edge(
    got: Sequence[np.ndarray], wanted: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """``got`` with what is 0 in one of both and not in the other as in ``wanted``.

    A score next to a threshold, or to the last of the best, is kept by one and dropped
    by the other for a difference in the last bit. At most :data:`EDGE` of them may be.
    """
    found = []
    for a, b in zip(got, wanted):
        edge = (a != 0) != (b != 0) if a.shape == b.shape else np.ones(1, bool)
        found.append(np.where(edge, b, a) if edge.mean() <= EDGE else a)
    return found


def relative_error(got: np.ndarray, wanted: np.ndarray) -> float:
    """``max |got - wanted| / max |wanted|``; infinite for another shape."""
    if got.shape != wanted.shape:
        return float('inf')
    if not wanted.size:
        return 0.0
    scale = max(float(np.abs(wanted).max()), 1e-12)
    return float(np.abs(got - wanted).max()) / scale
