"""Repairs the layers that read fewer channels, in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..layers.rule import rule_of
from ..policy import IN, OUT, ModelGraph, Policy
from ..reconstruction.compensation import RIDGE, compensate, predict
from ..reconstruction.moments import Moments, measure, readers
from ..reconstruction.sequential import Narrowed, fit_in_order
from ..registry import MUTATORS
from ..surgery.selection import Selection
from .base import NO_IMAGES, Calibration, Kept, Mutator, Values

SEQUENTIAL = ('conv', 'linear')
"""Kinds of layers that are fitted in order, if their windows have two axes or none."""


@MUTATORS.register_module()
class ReconstructMutator(Mutator):
    """Lets the channels that stay take over what the removed ones did.

    It acts between the widths and the bits, on every layer without groups that reads
    fewer channels than before: their weights, and the bias where there is one. A
    convolution without a bias is taken to be followed by a norm, whose statistics
    Dynamic BN corrects. No label
    and no forward pass is needed for a policy; one pass over the calibration images
    before the search measures the inputs of all layers.

    Args:
        ridge (float): Shrinks the repair, as a share of the inputs' mean variance.
            Defaults to 1e-3.
        sequential (bool): Repair what is written for good once more, layer after layer
            on what the compressed network really computes
            (:mod:`mmcompress.reconstruction.sequential`); too slow for every candidate.
            Defaults to True.
    """

    def __init__(self, ridge: float = RIDGE, sequential: bool = True) -> None:
        self.ridge, self.sequential = ridge, sequential

    def prepare(
        self, model: nn.Module, graph: ModelGraph,
        calibration: Calibration = NO_IMAGES,
    ) -> None:
        """Measure what the layers of the dense model read; after sorting."""
        self.model, self.graph = model, graph
        self.batches, self.selection = calibration.batches, Selection(model, graph)
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
        for layer in self._narrowed(kept).values():
            rule = rule_of(layer.module)
            values: dict[str, Any] = dict(
                weight=rule.from_output(layer.module, layer.rows).contiguous())
            if layer.bias is not None:
                values['bias'] = layer.bias
            yield layer.module, values

    @torch.no_grad()
    def write(self, model: nn.Module, policy: Policy, kept: Kept) -> None:
        """See :meth:`Mutator.write`."""
        modules, layers = dict(model.named_modules()), self._narrowed(kept)
        found = {name: (layer.rows, layer.bias) for name, layer in layers.items()}
        if self.sequential:
            slices = self.selection.values(self.selection.of_policy(policy))
            fitted = fit_in_order(
                self.model, {n: layer for n, layer in layers.items()
                             if rule_of(layer.module).kind in SEQUENTIAL
                             and layer.rows.dim() in (2, 4)},
                slices, self.batches, self.ridge)
            found |= {name: (fit.rows, fit.bias) for name, fit in fitted.items()}
        for name, (rows, bias) in found.items():
            self._overwrite(modules[name], kept[name], rows, bias)

    @staticmethod
    def _overwrite(
        module: nn.Module, sides: Mapping[str, np.ndarray], rows: Tensor,
        bias: Tensor | None,
    ) -> None:
        """Write weights of what stays into a layer of dense widths."""
        rule = rule_of(module)
        weight = rule.weight(module)
        dense = rule.by_output(module, weight).clone()
        into = torch.as_tensor(sides[IN], device=dense.device)
        out = torch.as_tensor(
            sides.get(OUT, np.arange(len(dense))), device=dense.device)
        dense[out[:, None], into] = rows
        weight.copy_(rule.from_output(module, dense))
        if module._parameters.get('bias') is not None:
            module.bias[out] = bias

    def _narrowed(self, kept: Kept) -> dict[str, Narrowed]:
        """The layers that read fewer channels, repaired in closed form."""
        modules, found = dict(self.model.named_modules()), {}
        for name, sides in kept.items():
            if IN not in sides or name not in self.moments or not len(sides[IN]):
                continue
            module, moments, out = modules[name], self.moments[name], sides.get(OUT)
            rule = rule_of(module)
            rows = rule.by_output(module, rule.weight(module))
            bias = module._parameters.get('bias')
            if out is not None:
                index = torch.as_tensor(out, device=rows.device)
                rows, bias = rows[index], None if bias is None else bias[index]
            # A convolution without a bias has a norm behind it, a linear layer may not.
            centred = bias is not None or rule.kind != 'linear'
            moments = moments if centred else moments.about_zero()
            rows, shift = compensate(
                rows, predict(moments, sides[IN], self.ridge), moments.coverage)
            bias = None if bias is None else bias + shift
            found[name] = Narrowed(module, out, rows, bias, centred)
        return found
