"""From kept channels of units to kept positions of layers, and writing them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import nn

from ..arithmetic.slices import take
from ..layers.attention import attentions
from ..layers.multihead import open_attentions
from ..layers.rule import rule_of, sliced
from ..policy import OUT, ModelGraph, Policy


class Selection:
    """Turns kept channels into the new attributes of every affected layer.

    Args:
        model (nn.Module): The dense model.
        graph (ModelGraph): Its units.
    """

    def __init__(self, model: nn.Module, graph: ModelGraph) -> None:
        self.graph = graph
        open_attentions(model)  # another one than the traced one, perhaps
        self._modules = dict(model.named_modules())
        # (layer, side) -> [(unit, positions)].
        self._axes: dict[tuple[str, str], list[tuple[str, np.ndarray]]] = {}
        for unit in graph.units:
            for member in unit.members:
                key = (member.layer, member.side)
                self._axes.setdefault(key, []).append((unit.name, member.positions))
        self._sizes = {key: axis_size(self._modules, *key) for key in self._axes}
        # Attentions by the layers inside them.
        self._around = {layer: path for path in attentions(model)
                        for layer, _ in self._axes if layer.startswith(f'{path}.')}
        self._widths = {u.name: u.width for u in graph.units}

    def of_policy(self, policy: Policy) -> dict[str, np.ndarray]:
        """The first ``width`` channels of every unit."""
        return {name: np.arange(policy.widths.get(name, width))
                for name, width in self._widths.items()}

    def removed(self, channels: Mapping[str, np.ndarray]
                ) -> dict[str, dict[str, np.ndarray]]:
        """Removed positions by layer and side, where there are any.

        Args:
            channels (Mapping[str, np.ndarray]): Kept channel numbers by unit;
                a unit that is absent keeps all.
        """
        gone: dict[str, dict[str, np.ndarray]] = {}
        for (layer, side), parts in self._axes.items():
            lost = []
            for unit, positions in parts:
                if unit in channels and len(channels[unit]) < len(positions):
                    out = np.ones(len(positions), bool)
                    out[channels[unit]] = False
                    lost.append(positions[out].ravel())
            if lost:
                gone.setdefault(layer, {})[side] = np.sort(np.concatenate(lost))
        return gone

    def kept(self, channels: Mapping[str, np.ndarray]
             ) -> dict[str, dict[str, np.ndarray]]:
        """Kept positions, ascending, by layer and side, where any are removed.

        Args:
            channels (Mapping[str, np.ndarray]): As for :meth:`removed`.
        """
        return {
            layer: {side: np.setdiff1d(np.arange(self._sizes[layer, side]), gone)
                    for side, gone in sides.items()}
            for layer, sides in self.removed(channels).items()}

    def values(
        self, channels: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[nn.Module, dict[str, Any]]]:
        """Yield every affected module with the attributes it takes.

        Args:
            channels (Mapping[str, np.ndarray]): Kept channel numbers by unit.
        """
        affected = self.kept(channels)
        around = {self._around[layer] for layer in affected if layer in self._around}
        for path in sorted(around - affected.keys()):  # with all their heads
            module = self._modules[path]
            yield module, rule_of(module).stand_in(module)
        for layer, sides in affected.items():
            yield self._attributes(layer, sides)

    def orders(
        self, order: Mapping[str, np.ndarray]
    ) -> dict[str, dict[str, np.ndarray]]:
        """The position that comes to each place, by layer and side.

        Args:
            order (Mapping[str, np.ndarray]): By unit, the channel that comes to each
                place; a unit that is absent keeps its order.
        """
        axes: dict[str, dict[str, np.ndarray]] = {}
        for (layer, side), parts in self._axes.items():
            for unit, places in parts:
                if unit in order:
                    sides = axes.setdefault(layer, {})
                    if side not in sides:
                        sides[side] = np.arange(self._sizes[layer, side])
                    sides[side][places.ravel()] = places[order[unit]].ravel()
        return axes

    def reordered(
        self, order: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[nn.Module, dict[str, Any]]]:
        """Yield every affected module with the attributes of another order.

        Args:
            order (Mapping[str, np.ndarray]): As for :meth:`orders`.
        """
        for layer, sides in self.orders(order).items():
            module, values = self._attributes(layer, sides)
            values.pop('forward', None)  # with all its heads, it is its own
            yield module, values

    def _attributes(
        self, layer: str, sides: Mapping[str, np.ndarray]
    ) -> tuple[nn.Module, dict[str, Any]]:
        """A module and its attributes with some positions of its axes."""
        if '@' in layer:
            module, name, axis = bare_parameter(self._modules, layer)
            return module, {name: take(getattr(module, name), axis, sides['out'])}
        module = self._modules[layer]
        return module, sliced(module, sides.get('out'), sides.get('in'))


def bare_parameter(
    modules: Mapping[str, nn.Module], member: str
) -> tuple[nn.Module, str, int]:
    """Owner, attribute and axis of a member such as ``'backbone.gamma@0'``."""
    path, axis = member.rsplit('@', 1)
    owner, _, name = path.rpartition('.')
    return modules[owner], name, int(axis)


def axis_size(modules: Mapping[str, nn.Module], layer: str, side: str) -> int:
    """Dense number of positions on one axis of a member."""
    if '@' in layer:
        module, name, axis = bare_parameter(modules, layer)
        return getattr(module, name).shape[axis]
    module = modules[layer]
    rule = rule_of(module)
    return rule.out_size(module) if side == OUT else rule.in_size(module)
