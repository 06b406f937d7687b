"""Putting the channels of a model in another order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor, nn

from ..policy import ModelGraph
from .selection import Selection
from .shadow import overwrite


def permute(
    model: nn.Module, graph: ModelGraph, order: Mapping[str, np.ndarray]
) -> None:
    """Reorder the channels of every unit in place; the output does not change.

    Args:
        model (nn.Module): The dense model.
        graph (ModelGraph): Its units.
        order (Mapping[str, np.ndarray]): By unit, the channel that comes to each
            place.
    """
    for module, values in Selection(model, graph).reordered(order):
        for name, value in values.items():
            if isinstance(value, Tensor):
                getattr(module, name).data.copy_(value.detach().clone())
            else:  # positions, e.g. those that a ChannelPad copies
                overwrite(module, {name: value})
