"""Which perturbations belong to which choice of a search space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, product
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import CompressionError
from ..policy import FLOAT, IN, Member, ModelGraph, SearchSpace
from .products import Probe, Products
from .table import PriceGroup, PriceTable


class Quantiser(Protocol):
    """How weights and activations will be quantised."""

    def weight(self, layer: str, bits: int) -> Tensor:
        """The quantised weight of a layer."""

    def activation(self, layer: str, x: Tensor, bits: int) -> Tensor:
        """The quantised input of a layer."""


@dataclass(frozen=True)
class Joint:
    """A unit and the only layer that reads it: decided together.

    Args:
        unit (int): Number of the unit.
        layer (int): Number of the layer.
    """

    unit: int
    layer: int


@dataclass(frozen=True, eq=False)
class Layout:
    """The terms of the prices of a space, in a fixed order.

    The width of a unit is perturbed where the unit is read: removed channels lose
    their weights in every layer that mixes channels. That is all a channel does, so
    each effect counts once; the filters and norms that produce it would count it
    again at every norm and depthwise conv on the way. A depthwise conv passes its
    channel on and is not a reader.

    Args:
        graph (ModelGraph): The model.
        space (SearchSpace): The space.
    """

    graph: ModelGraph
    space: SearchSpace

    @cached_property
    def readers(self) -> dict[int, tuple[Member, ...]]:
        """By number of a prunable unit, its members that read it.

        Raises:
            CompressionError: No layer reads a unit.
        """
        layers = {layer.name: layer for layer in self.graph.layers}

        def read(member: Member) -> bool:
            layer = layers.get(member.layer) if member.side == IN else None
            return layer is not None and (
                layer.groups == 1 or layer.within_groups(member))

        found = {}
        for i, unit in enumerate(self.graph.units):
            if len(self.space.choices[i]) > 1:
                found[i] = tuple(m for m in unit.members if read(m))
                if not found[i]:
                    raise CompressionError(
                        f'No layer reads the unit {unit.name!r}, so it has no '
                        "gradient price; use prices=dict(type='MeasuredPrices').")
        return found

    @cached_property
    def joints(self) -> tuple[Joint, ...]:
        """Units read by one layer only, which reads nothing else and has free bits."""
        numbers = {layer.name: i for i, layer in enumerate(self.graph.layers)}
        pairs = []
        for i, members in self.readers.items():
            layers = {m.layer for m in members}
            layer = numbers[members[0].layer]
            whole = sum(m.positions.size for m in members) \
                == self.graph.layers[layer].in_channels
            if len(layers) == 1 and whole and len(self._weight_bits(layer)) > 1:
                pairs.append(Joint(i, layer))
        return tuple(pairs)

    @cached_property
    def _bits(self) -> list[tuple[int, int]]:
        """Columns of the weight and activation bits of every layer."""
        _, *sides = self.space.split(np.arange(len(self.space)))
        return list(zip(*(side.tolist() for side in sides)))

    def _weight_bits(self, layer: int) -> tuple[int, ...]:
        return self.space.choices[self._bits[layer][0]]

    def _activation_bits(self, layer: int) -> tuple[int, ...]:
        return self.space.choices[self._bits[layer][1]]

    def probes(self, model: nn.Module, quantiser: Quantiser | None) -> dict[str, Probe]:
        """What to measure in every layer."""
        modules = dict(model.named_modules())
        read = {m.layer for members in self.readers.values() for m in members}
        probes = {}
        for i, name in enumerate(self.space.layers):
            weights, activations = (
                [b for b in bits if b < FLOAT] if len(bits) > 1 else []
                for bits in (self._weight_bits(i), self._activation_bits(i)))
            if name not in read and not weights and not activations:
                continue
            dense = modules[name].weight.detach()
            probes[name] = Probe(
                name in read,
                {b: quantiser.weight(name, b) - dense for b in weights},
                {b: lambda x, name=name, b=b: quantiser.activation(name, x, b)
                 for b in activations})
        return probes

    # -- terms -------------------------------------------------------------------
    def terms(self, found: Mapping[str, Products], samples: int) -> Tensor:
        """Inner products ``<dW[choice], g[n]>`` of every term.

        Args:
            found (Mapping[str, Products]): From :func:`per_sample_products`.
            samples (int): N.

        Returns:
            Tensor: float64 of shape ``(N, T)``: widths of every prunable unit, weight
            bits and activation bits of every layer where free, then the joint ones.
        """
        parts = []
        for unit, members in self.readers.items():
            removed = torch.zeros(samples, self.graph.units[unit].width + 1)
            for member in members:
                if layer := found.get(member.layer):
                    removed = removed + self._prefix(member, layer.removal)
            parts.append(_from_end(removed, self.space.choices[unit]))
        for i, name in enumerate(self.space.layers):
            layer = found.get(name, Products())
            for bits, by_bits in ((self._weight_bits(i), layer.weights),
                                  (self._activation_bits(i), layer.activations)):
                if len(bits) > 1:
                    zero = torch.zeros(samples, 1)
                    parts.append(torch.stack([
                        by_bits.get(b, zero).reshape(samples, -1).sum(1) for b in bits
                    ], 1))
        for joint in self.joints:
            layer = found.get(self.space.layers[joint.layer])
            parts.append(self._joint_terms(joint, layer, samples))
        return torch.cat([p.double().cpu() for p in parts], 1)

    def _joint_terms(
        self, joint: Joint, layer: Products | None, samples: int
    ) -> Tensor:
        """``(N, widths * bits)``: quantisation of what stays, loss of what goes."""
        widths, bits = (list(self.space.choices[joint.unit]),
                        self._weight_bits(joint.layer))
        if layer is None:
            return torch.zeros(samples, len(widths) * len(bits))
        members = self.readers[joint.unit]

        def prefix(values: Tensor) -> Tensor:
            return sum(self._prefix(m, values) for m in members)

        gone = _from_end(prefix(layer.removal), widths)
        kept = [prefix(layer.weights[b])[:, widths] if b < FLOAT
                else torch.zeros_like(gone) for b in bits]
        return (gone[:, :, None] + torch.stack(kept, 2)).flatten(1)

    @staticmethod
    def _prefix(member: Member, values: Tensor) -> Tensor:
        """``(N, width + 1)``: sums over the first k channels of the unit."""
        index = torch.as_tensor(member.positions, device=values.device)
        sums = values.double()[:, index].sum(2).cumsum(1)
        return nn.functional.pad(sums, (1, 0))

    def table(self, prices: np.ndarray) -> PriceTable:
        """Arrange the price ``(T,)`` of every term as a table of the space."""
        parts = iter(np.split(prices, np.cumsum(self.sizes())[:-1]))
        columns = {unit: next(parts) for unit in self.readers}
        for column in chain(*self._bits):
            if len(self.space.choices[column]) > 1:
                columns[column] = next(parts)
        groups = [self._joint_group(j, next(parts), columns) for j in self.joints]
        return PriceTable.from_columns(self.space, columns, groups)

    def _joint_group(
        self, joint: Joint, prices: np.ndarray, columns: Mapping[int, np.ndarray]
    ) -> PriceGroup:
        """Width and weight bits priced together, activation bits on top."""
        weight, activation = self._bits[joint.layer]
        names = [joint.unit, weight]
        choices = [self.space.choices[c] for c in names]
        if activation in columns:
            names.append(activation)
            choices.append(self.space.choices[activation])
            prices = (prices[:, None] + columns[activation]).ravel()
        return PriceGroup(tuple(names), np.array(list(product(*choices))), prices)

    def sizes(self) -> list[int]:
        """Number of terms of each part, in the order of :meth:`terms`."""
        sizes = [len(self.space.choices[unit]) for unit in self.readers]
        sizes += [len(self.space.choices[c]) for c in chain(*self._bits)
                  if len(self.space.choices[c]) > 1]
        return sizes + [
            len(self.space.choices[j.unit]) * len(self._weight_bits(j.layer))
            for j in self.joints]


def _from_end(prefix: Tensor, widths: Sequence[int]) -> Tensor:
    """What the channels from each width on add up to, ``(N, len(widths))``."""
    return prefix[:, -1:] - prefix[:, list(widths)]
