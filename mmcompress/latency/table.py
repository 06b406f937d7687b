"""Latency as a cost: a table of measured layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from ..costs.table import CostTable
from ..graph.inputs import run
from ..layers.rule import rule_of
from ..policy import FLOAT, ModelGraph
from ..surgery.hooks import hooked
from ..surgery.modes import evaluating
from .layer_timer import LayerShape, LayerTimer

GRID = (0.1, 0.25, 0.5, 0.75, 1.0)
"""Shares of a layer's dense channels at which it is measured."""

INTEGER = 8
"""Bits up to which a runtime computes in integers."""

Measure = Callable[[LayerShape, int, int, int, bool], float]
"""Milliseconds of ``(shape, output channels, input channels per group, groups, in
integers)``; see :meth:`LayerTimer.layer`."""


class LatencyTable:
    """Milliseconds of a policy: the sum of its layers, from a table, plus a constant.

    Every layer is measured on a grid of widths, in float and in 8 bits, when its
    latency is first asked for; between the widths the table interpolates linearly, in
    both numbers of channels. A layer computes in integers if its weights and
    activations both have at most 8 bits, and fewer bits are not faster; between 8 and
    32 bits, where no policy is, it interpolates as well, for solvers that relax bits.

    Whatever is not a layer (additions, the borders between operators) is in
    ``constant`` and ``scale``, which :meth:`fit` takes from whole networks. Hand an
    instance to :class:`Costs` as ``extra=dict(latency_ms=table)``.

    Args:
        shapes (dict[str, Sequence[LayerShape]]): Calls of every layer, by name; see
            :func:`layer_shapes`.
        measure (Measure): Measures a layer.
    """

    def __init__(
        self, shapes: dict[str, Sequence[LayerShape]], measure: Measure
    ) -> None:
        self.shapes, self.measure = shapes, measure
        self.scale, self.constant = 1.0, 0.0
        self._grids: dict[tuple[str, bool], tuple[Tensor, Tensor, Tensor]] = {}

    def __call__(
        self, table: CostTable, widths: Tensor, weight_bits: Tensor,
        activation_bits: Tensor,
    ) -> Tensor:
        """Milliseconds; shapes as for every cost."""
        return self.constant + self.scale * self.layers(
            table, widths, weight_bits, activation_bits).sum(-1)

    def layers(
        self, table: CostTable, widths: Tensor, weight_bits: Tensor,
        activation_bits: Tensor,
    ) -> Tensor:
        """Milliseconds of every layer, ``(..., L)``, before scale and constant."""
        out, into = table.channels(widths)
        bits = torch.maximum(
            weight_bits.to(out.dtype), activation_bits.to(out.dtype))
        share = ((bits - INTEGER) / (FLOAT - INTEGER)).clamp(0, 1)
        columns = []
        for i in range(len(table.graph.layers)):
            value = 0.0
            if bool((share[..., i] > 0).any()) or not share.numel():
                value = self._interpolate(
                    table, i, False, out[..., i], into[..., i]) * share[..., i]
            if bool((share[..., i] < 1).any()):
                value = value + self._interpolate(
                    table, i, True, out[..., i], into[..., i]) * (1 - share[..., i])
            columns.append(value)
        return table.applied(torch.stack(columns, -1), widths)

    def fit(self, predicted: Sequence[float], measured: Sequence[float]) -> None:
        """Set ``scale`` and ``constant`` so that whole networks are met.

        Least squares of the relative errors; with one network, or where the constant
        would be negative, only the scale.

        Args:
            predicted (Sequence[float]): Sums over the layers, in ms.
            measured (Sequence[float]): Of the same networks, in ms.
        """
        x, y = np.asarray(predicted, float), np.asarray(measured, float)
        rows = np.stack([x / y, 1 / y], 1)
        self.scale, self.constant = 0.0, -1.0
        if len(np.unique(x)) > 1:
            self.scale, self.constant = np.linalg.lstsq(
                rows, np.ones(len(y)), rcond=None)[0].tolist()
        if self.constant < 0 or self.scale <= 0:
            self.scale, self.constant = float(
                rows[:, 0].sum() / (rows[:, 0] ** 2).sum()), 0.0

    # -- the grid ------------------------------------------------------------
    def _interpolate(
        self, table: CostTable, i: int, integer: bool, out: Tensor, into: Tensor
    ) -> Tensor:
        outs, intos, values = self._grid(table, i, integer)
        low_o, high_o, t = _between(outs, out)
        low_i, high_i, u = _between(intos, into)
        low = values[low_o, low_i] * (1 - u) + values[low_o, high_i] * u
        high = values[high_o, low_i] * (1 - u) + values[high_o, high_i] * u
        return low * (1 - t) + high * t

    def _grid(
        self, table: CostTable, i: int, integer: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        layer = table.graph.layers[i]
        if (layer.name, integer) in self._grids:
            return self._grids[layer.name, integer]
        dense_in = layer.in_channels // layer.groups
        stay = not table.groups_per_out[i]
        step = layer.groups if stay else layer.out_channels // layer.groups
        outs = _axis(layer.out_channels, step, bool(table.out_per_unit[i].any()))
        intos = _axis(dense_in, 1, bool(table.in_per_unit[i].any()))
        values = [[sum(self.measure(
            shape, o, n, layer.groups if stay else o // step, integer)
            for shape in self.shapes[layer.name]) for n in intos] for o in outs]
        grid = tuple(torch.tensor(x, dtype=torch.float64)
                     for x in (outs, intos, values))
        self._grids[layer.name, integer] = grid
        return grid


def _axis(dense: int, step: int, free: bool) -> list[int]:
    """Channel counts to measure at, ascending, the dense one last."""
    if not free:
        return [dense]
    return sorted({max(step, round(dense * share / step) * step) for share in GRID})


def _between(points: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Neighbours of ``x`` on a grid and where it is between them."""
    if len(points) == 1:
        index = torch.zeros_like(x, dtype=torch.long)
        return index, index, torch.zeros_like(x)
    high = torch.searchsorted(points, x.detach().contiguous()).clamp(
        1, len(points) - 1)
    low = high - 1
    return low, high, (x - points[low]) / (points[high] - points[low])


@torch.no_grad()
def layer_shapes(
    model: nn.Module, graph: ModelGraph
) -> dict[str, list[LayerShape]]:
    """Every call of every layer on one image.

    Args:
        model (nn.Module): The dense model.
        graph (ModelGraph): Its layers.
    """
    modules = dict(model.named_modules())
    calls: dict[str, list[LayerShape]] = {layer.name: [] for layer in graph.layers}

    def watch(name: str, module: nn.Module, args: tuple) -> None:
        rule = rule_of(module)
        calls[name].append(LayerShape(
            rule.kind, **rule.geometry(module, args[0]),
            activation=_activation(modules.get(name.rpartition('.')[0]))))

    with evaluating(model), hooked(
            before={modules[name]: partial(watch, name) for name in calls}):
        run(model, graph.input_shape, boxes=None)
    return calls


def _activation(parent: nn.Module | None) -> str:
    """The operator of its own that a container applies behind its layer."""
    rule = rule_of(parent)
    follows = rule_of(rule.activation(parent)) if rule else None
    return follows.operator if follows else ''


def make_latency(
    model: nn.Module, graph: ModelGraph, timer: LayerTimer
) -> LatencyTable:
    """A latency table of a model on the device at hand."""
    return LatencyTable(layer_shapes(model, graph), timer.layer)
