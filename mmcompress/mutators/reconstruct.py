"""Repairs the layers of a policy, in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..layers.rule import rule_of, sliced
from ..options import Count, Positive
from ..policy import IN, OUT, ModelGraph, Policy
from ..quant.presets import preset
from ..reconstruction.columns import has_columns
from ..reconstruction.compensation import RIDGE, compensate
from ..reconstruction.flow import named_norms, norms_behind
from ..reconstruction.moments import Moments, readers
from ..reconstruction.sequential import Layer, fit_in_order
from ..reconstruction.units import names_of_readers
from ..registry import MUTATORS
from ..surgery.selection import Selection
from .base import NO_IMAGES, Calibration, Kept, Mutator, Values


@MUTATORS.register_module()
class ReconstructMutator(Mutator):
    """Lets the channels that stay take over what the removed ones did.

    It acts between the widths and the bits, on every layer without groups that reads
    fewer channels than before: their weights, and the bias, or the mean of the batch
    norm behind. No label and no forward pass is needed for a policy; one pass over the
    calibration images before the search measures the inputs of all layers.

    Args:
        ridge (float): Shrinks the repair, as a share of the inputs' mean variance.
            Defaults to 1e-2.
        sequential (bool | None): Repair what is written for good once more, layer after
            layer on what the compressed network really computes
            (:mod:`mmcompress.reconstruction.sequential`); too slow for every candidate.
            Predictors are left out: least squares shrinks their rare high scores.
            Defaults to None: a session writes the form whose outputs are nearer to the
            dense ones.
        residual (bool): In doing so, let layers that are added to a shortcut make up
            for what the shortcut lost. Defaults to True.
        norm_images (int): Most calibration images that a candidate's batch norms are
            found on, as the repair leaves them little to find; never more than a
            fifth of those scored. Defaults to 32.
    """

    def __init__(
        self, ridge: Positive = RIDGE, sequential: bool | None = None,
        residual: bool = True, norm_images: Count = 32,
    ) -> None:
        self.ridge, self.sequential, self.residual = ridge, sequential, residual
        self.norm_images = norm_images

    @property
    def repair(self) -> ReconstructMutator:
        """See :class:`Mutator`."""
        return self

    @contextmanager
    def writing(self, sequential: bool) -> Iterator[None]:
        """Write in one form within the block, whatever the settings say."""
        before, self.sequential = self.sequential, sequential
        try:
            yield
        finally:
            self.sequential = before

    def prepare(
        self, model: nn.Module, graph: ModelGraph,
        calibration: Calibration = NO_IMAGES,
    ) -> None:
        """Measure what the layers of the dense model read; after sorting."""
        self.model, self.graph = model, graph
        self.batches, self.selection = calibration.batches, Selection(model, graph)
        modules = dict(model.named_modules())
        self.layers = {layer.name: modules[layer.name] for layer in graph.layers}
        self.norms = named_norms(model)
        self.predictors = preset(graph, 'predictors')
        self.moments: dict[str, Moments] = calibration.measured(model, graph)
        self.behind = norms_behind(model, self.layers, calibration.batches[0])

    def settles_norms(self, policy: Policy) -> bool:
        """Layers that are fitted in order have the means and variances of the dense
        ones; to find them again on a few images costs accuracy (docs)."""
        return self.sequential is not False

    def act(self, policy: Policy, kept: Kept) -> Iterator[Values]:
        """See :meth:`Mutator.act`."""
        for name, layer in self._repaired(kept).items():
            yield layer.module, self._values(layer)
            for norm in self._mended_norms(name):
                module = self.norms[norm]
                yield module, dict(running_mean=module.running_mean - layer.bias)

    @torch.no_grad()
    def write(self, model: nn.Module, policy: Policy, kept: Kept) -> None:
        """See :meth:`Mutator.write`."""
        modules, layers = dict(model.named_modules()), self._repaired(kept)
        found = {name: (layer.rows, layer.bias) for name, layer in layers.items()}
        if self.sequential is not False and layers:
            every = {**self._others(kept, layers), **layers}
            fitted = fit_in_order(
                self.model, {name: layer for name, layer in every.items()
                             if name not in self.predictors},
                self._slices(policy, layers), self.batches, self.ridge,
                residual=self.residual)
            found |= {name: (fit.rows, fit.bias) for name, fit in fitted.items()}
        for name, (rows, bias) in found.items():
            sides = kept.get(name, {})
            _overwrite(modules[name], sides, rows, bias)
            out = sides.get(OUT, slice(None))
            for norm in self._mended_norms(name):
                mean = modules[norm].running_mean
                mean[out] -= bias.to(mean)

    def _values(self, layer: Layer) -> dict[str, Any]:
        values: dict[str, Any] = dict(weight=rule_of(layer.module).from_output(
            layer.module, layer.rows).contiguous())
        if layer.module._parameters.get('bias') is not None:
            values['bias'] = layer.bias
        return values

    def _slices(self, policy: Policy, layers: Mapping[str, Layer]) -> Iterator[Values]:
        yield from self.selection.values(self.selection.of_policy(policy))
        for layer in layers.values():
            yield layer.module, dict(self._values(layer), bias=layer.bias)

    def _mended_norms(self, name: str) -> tuple[str, ...]:
        """The norms that take the means of a layer without a bias of its own."""
        own = self.layers[name]._parameters.get('bias') is not None
        return () if own else self.behind.get(name, ())

    def _repaired(self, kept: Kept) -> dict[str, Layer]:
        """The layers that read fewer channels, repaired in closed form."""
        found = {}
        for name, sides in kept.items():
            if IN not in sides or name not in self.moments or not len(sides[IN]):
                continue
            module, moments, out = self.layers[name], self.moments[name], sides.get(OUT)
            rule = rule_of(module)
            rows = rule.by_output(module, rule.weight(module)).detach()
            bias = module._parameters.get('bias')
            centred = bias is not None or name in self.behind
            if out is not None:
                index = torch.as_tensor(out, device=rows.device)
                rows, bias = rows[index], None if bias is None else bias[index]
            moments = moments if centred else moments.about_zero()
            rows, shift = compensate(rows, moments, sides[IN], self.ridge)
            if centred:
                bias = shift if bias is None else bias.detach() + shift
            found[name] = Layer(module, out, rows, bias, centred)
        return found

    def _others(self, kept: Kept, done: Mapping[str, Layer]) -> dict[str, Layer]:
        """The other layers as they are sliced: their inputs err, too."""
        found = {}
        for name, module in self.layers.items():
            if name in done or not has_columns(module):
                continue
            sides = kept.get(name, {})
            values = sliced(module, sides.get(OUT), sides.get(IN))
            bias = values.get('bias')
            found[name] = Layer(
                module, sides.get(OUT),
                rule_of(module).by_output(module, values['weight']).detach(),
                None if bias is None else bias.detach(),
                module._parameters.get('bias') is not None or name in self.behind)
        return found


def _overwrite(
    module: nn.Module, sides: Mapping[str, np.ndarray], rows: Tensor,
    bias: Tensor | None,
) -> None:
    """Write weights of what stays into a layer of dense widths."""
    rule = rule_of(module)
    weight = rule.weight(module)
    dense = rule.by_output(module, weight).clone()
    within = rule.window(module, sides.get(IN))
    into, out = (
        torch.as_tensor(np.arange(size) if side is None else side, device=dense.device)
        for side, size in ((within, dense.shape[1]), (sides.get(OUT), len(dense))))
    dense[out[:, None], into] = rows.to(dense)
    weight.copy_(rule.from_output(module, dense))
    if module._parameters.get('bias') is not None:
        module.bias[out] = bias.to(dense)


def repaired_share(model: nn.Module, graph: ModelGraph) -> tuple[float, list[str]]:
    """How much of what reads units can be repaired.

    Args:
        model (nn.Module): The dense model.
        graph (ModelGraph): Its units and layers.

    Returns:
        tuple[float, list[str]]: Share of the MACs of the layers that mix the channels
        of units, and the names of those that are left out.
    """
    read = names_of_readers(graph.units)
    macs = {layer.name: layer.macs for layer in graph.layers
            if layer.name in read and layer.groups < layer.in_channels}
    known = readers(model, macs)
    return (sum(macs[name] for name in known) / max(1, sum(macs.values())),
            sorted(macs.keys() - known.keys()))
