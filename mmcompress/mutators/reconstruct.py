"""Repairs the layers that read fewer channels, in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..layers.rule import rule_of
from ..policy import IN, OUT, ModelGraph, Policy
from ..reconstruction.compensation import RIDGE, Prediction, compensate, predict
from ..reconstruction.moments import Moments, measure, readers
from ..registry import MUTATORS
from .base import NO_IMAGES, Calibration, Kept, Mutator, Values


@MUTATORS.register_module()
class ReconstructMutator(Mutator):
    """Lets the channels that stay take over what the removed ones did.

    It acts between the widths and the bits, on every layer without groups that reads
    fewer channels than before: their weights, and the bias where there is one. A layer
    without a bias is followed by a norm, whose statistics Dynamic BN corrects. No label
    and no forward pass is needed for a policy; one pass over the calibration images
    before the search measures the inputs of all layers.

    Args:
        ridge (float): Shrinks the repair, as a share of the inputs' mean variance.
            Defaults to 1e-3.
    """

    def __init__(self, ridge: float = RIDGE) -> None:
        self.ridge = ridge

    def prepare(
        self, model: nn.Module, graph: ModelGraph,
        calibration: Calibration = NO_IMAGES,
    ) -> None:
        """Measure what the layers of the dense model read; after sorting."""
        self.model, self.graph = model, graph
        read = {member.layer for unit in graph.units for member in unit.members
                if member.side == IN}
        self.moments: dict[str, Moments] = measure(
            model, readers(model, sorted(read)), calibration.batches)

    @property
    def share(self) -> float:
        """Share of the MACs of layers that units shrink whose inputs are repaired."""
        touched = {member.layer for unit in self.graph.units
                   for member in unit.members if member.side == IN}
        macs = {layer.name: layer.macs for layer in self.graph.layers
                if layer.name in touched}
        return sum(macs[name] for name in macs if name in self.moments) / max(
            1, sum(macs.values()))

    def act(self, policy: Policy, kept: Kept) -> Iterator[Values]:
        """See :meth:`Mutator.act`."""
        modules = dict(self.model.named_modules())
        for name, sides, prediction in self._predictions(kept):
            module = modules[name]
            rule = rule_of(module)
            rows = rule.by_output(module, rule.weight(module))
            bias = module._parameters.get('bias')
            if OUT in sides:
                index = torch.as_tensor(sides[OUT], device=rows.device)
                rows = rows[index]
                bias = None if bias is None else bias[index]
            weights, shift = compensate(rows, prediction, self.moments[name].coverage)
            values: dict[str, Any] = dict(
                weight=rule.from_output(module, weights).contiguous())
            if bias is not None:
                values['bias'] = bias + shift
            yield module, values

    @torch.no_grad()
    def write(self, model: nn.Module, policy: Policy, kept: Kept) -> None:
        """See :meth:`Mutator.write`."""
        modules = dict(model.named_modules())
        for name, _, prediction in self._predictions(kept):
            module = modules[name]
            rule = rule_of(module)
            weight: Tensor = rule.weight(module)
            rows = rule.by_output(module, weight).clone()
            weights, shift = compensate(rows, prediction, self.moments[name].coverage)
            rows[:, prediction.kept] = weights
            weight.copy_(rule.from_output(module, rows))
            bias = module._parameters.get('bias')
            if bias is not None:
                bias.add_(shift)

    def _predictions(
        self, kept: Kept
    ) -> Iterator[tuple[str, dict[str, np.ndarray], Prediction]]:
        """The layers to repair, the positions they keep, and their removed inputs."""
        for name, sides in kept.items():
            if IN in sides and name in self.moments and len(sides[IN]):
                yield name, sides, predict(self.moments[name], sides[IN], self.ridge)
