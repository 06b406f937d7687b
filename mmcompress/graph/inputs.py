"""Running a model on one image without data, weights or a configuration."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..kinds import kind_of
from ..surgery.modes import tables_kept

FEW = 8
"""Regions of an image for a model whose cost does not matter."""


def run(model: nn.Module, shape: tuple[int, ...], boxes: int | None = FEW) -> Any:
    """Raw outputs of the whole network on one random image, the same ones always.

    The model is left as it was, even if it computes tables for the size of the image.

    Args:
        model (nn.Module): Any model; see :func:`mmcompress.kinds.kind_of`.
        shape (tuple[int, ...]): ``(C, H, W)`` of the image.
        boxes (int | None): Regions per image, of a detector of two stages; None for as
            many as the model keeps when testing.
    """
    kind = kind_of(model)
    with tables_kept(model), kind.fixed_regions(model, shape, boxes) as others:
        return kind.raw(model, kind.example(model, shape, regions=boxes)), others
