"""How much each channel matters, layer by layer, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class ChannelScores:
    """Scores of the channels of every unit, apart for the layers that gave them.

    Args:
        kind (str): What was measured, e.g. ``'l2'``; see
            :func:`mmcompress.mutators.importance`.
        units (Mapping[str, Mapping[str, np.ndarray]]): By unit name and layer
            name, float64 of shape ``(width,)``; larger matters more.
    """

    kind: str
    units: Mapping[str, Mapping[str, np.ndarray]]

    def summed(self) -> dict[str, np.ndarray]:
        """One score per channel: the sum over the layers of its unit."""
        return {unit: sum(layers.values()) for unit, layers in self.units.items()}

    def reordered(self, order: Mapping[str, np.ndarray]) -> ChannelScores:
        """The scores of channels that were moved.

        Args:
            order (Mapping[str, np.ndarray]): By unit, the channel that comes to
                each place.
        """
        return ChannelScores(self.kind, {
            unit: {layer: score[order[unit]] for layer, score in layers.items()}
            for unit, layers in self.units.items()})
