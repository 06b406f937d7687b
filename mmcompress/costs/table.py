"""The cost table of a traced model: cost as arithmetic on rows of numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..policy import IN, OUT, ModelGraph, Policy, SearchSpace
from ..registry import COSTS

CHUNK = 512
"""Rows costed at a time: the temporaries of so many stay in the processor's cache,
which makes 100,000 policies about five times faster than one piece would be."""

CostFunction = Callable[..., Tensor]
"""``(table, widths, weight_bits, activation_bits) -> cost``, as registered ones are."""


@dataclass(frozen=True, eq=False)
class CostTable:
    """Coefficients from which every analytic cost follows.

    With widths ``w`` of shape ``(N, U)``, layer l has ``out_fixed[l] + w @
    out_per_unit[l]`` output channels. A layer with groups mostly has all channels of
    one group in one unit, so its input channels per group never change: they are in
    ``in_fixed`` and ``in_per_unit`` is 0. Where its groups stay and all lose the same
    instead, ``in_per_unit`` is what one of them loses.

    Args:
        graph (ModelGraph): The model the table describes.
        out_per_unit, in_per_unit (Tensor): ``(L, U)``, channels of layer l per
            channel of unit u.
        out_fixed, in_fixed (Tensor): ``(L,)``, channels no unit governs.
        kernel, positions, bias, reads, writes (Tensor): ``(L,)``; see
            :class:`Layer`.
        groups_per_out (Tensor): ``(L,)``, groups per output channel; 0 for a layer
            whose groups stay, or without groups.
        groups (Tensor): ``(L,)``, of the dense layer; 1 without groups.
        other_per_unit (Tensor): ``(U,)``, parameters outside layers (norms) per
            unit channel.
        other_fixed (Tensor): Scalar, parameters outside layers that never go.
        heads_per_unit (Tensor | None): ``(L, U)``, of a layer that is applied for every
            head of an attention, the share of its calls that a unit channel is. None
            if there is no such layer.
    """

    graph: ModelGraph
    out_per_unit: Tensor
    in_per_unit: Tensor
    out_fixed: Tensor
    in_fixed: Tensor
    kernel: Tensor
    positions: Tensor
    bias: Tensor
    reads: Tensor
    writes: Tensor
    groups_per_out: Tensor
    groups: Tensor
    other_per_unit: Tensor
    other_fixed: Tensor
    heads_per_unit: Tensor | None = None

    @classmethod
    def from_graph(cls, graph: ModelGraph) -> CostTable:
        """Collect the coefficients of a traced model (float64)."""
        layers = {layer.name: i for i, layer in enumerate(graph.layers)}
        n, u = len(graph.layers), len(graph.units)
        out_per, in_per = np.zeros((n, u)), np.zeros((n, u))
        other = np.zeros(u)
        for j, unit in enumerate(graph.units):
            for member in unit.members:
                i = layers.get(member.layer)
                if i is None:
                    other[j] += member.count * graph.norm_params.get(member.layer, 0)
                elif member.side == OUT:
                    out_per[i, j] += member.count
                elif graph.layers[i].groups == 1:
                    assert member.side == IN
                    in_per[i, j] += member.count
                elif graph.layers[i].within_groups(member):
                    in_per[i, j] += member.count / graph.layers[i].groups
        heads = np.zeros((n, u))
        for i, layer in enumerate(graph.layers):
            for j, unit in enumerate(graph.units if layer.attention else ()):
                heads[i, j] = sum(
                    member.count for member in unit.producers
                    if member.layer == layer.attention) / layer.heads
        groups_stay = {m.layer for unit in graph.units for m in unit.members
                       if m.layer in layers
                       and graph.layers[layers[m.layer]].within_groups(m)}
        width = np.array([unit.width for unit in graph.units], float)
        dense_out = np.array([x.out_channels for x in graph.layers], float)
        dense_in = np.array([x.in_channels // x.groups for x in graph.layers], float)
        in_layers = sum(x.weights + x.has_bias * x.out_channels for x in graph.layers)

        def column(values: Iterable) -> Tensor:
            return torch.as_tensor(np.array(list(values), float))

        return cls(
            graph=graph,
            out_per_unit=torch.from_numpy(out_per),
            in_per_unit=torch.from_numpy(in_per),
            out_fixed=torch.from_numpy(dense_out - out_per @ width),
            in_fixed=torch.from_numpy(dense_in - in_per @ width),
            kernel=column(x.kernel for x in graph.layers),
            positions=column(x.positions for x in graph.layers),
            bias=column(x.has_bias for x in graph.layers),
            reads=column(x.reads for x in graph.layers),
            writes=column(x.writes for x in graph.layers),
            groups_per_out=column(
                x.groups / x.out_channels
                if x.groups > 1 and x.name not in groups_stay else 0
                for x in graph.layers),
            groups=column(x.groups for x in graph.layers),
            other_per_unit=torch.from_numpy(other),
            other_fixed=torch.tensor(graph.params - in_layers - other @ width),
            heads_per_unit=torch.from_numpy(heads) if heads.any() else None,
        )

    def channels(self, widths: Tensor) -> tuple[Tensor, Tensor]:
        """Output channels and input channels per group of every layer.

        Args:
            widths (Tensor): ``(..., U)``, real-valued or integer.

        Returns:
            tuple[Tensor, Tensor]: Two tensors of shape ``(..., L)``.
        """
        widths = widths.to(self.out_fixed.dtype)
        return (widths @ self.out_per_unit.T + self.out_fixed,
                widths @ self.in_per_unit.T + self.in_fixed)

    def activations(self, widths: Tensor) -> Tensor:
        """Elements of the largest input and output of every layer, ``(..., L)``."""
        out, into = self.channels(widths)
        # Of a layer with groups, whole groups go, each with the inputs it has.
        groups = torch.where(
            self.groups_per_out > 0, out * self.groups_per_out, self.groups)
        return self.applied(into * groups * self.reads + out * self.writes, widths)

    def weights(self, widths: Tensor) -> Tensor:
        """Weight elements of every layer, shape ``(..., L)``."""
        out, into = self.channels(widths)
        return out * into * self.kernel

    def applied(self, numbers: Tensor, widths: Tensor) -> Tensor:
        """Numbers of every layer, ``(..., L)``, as far as its calls are left."""
        if self.heads_per_unit is None:
            return numbers
        dense = torch.tensor([unit.width for unit in self.graph.units])
        return numbers * (1 - (dense - widths.to(numbers)) @ self.heads_per_unit.T)


class Costs:
    """Every registered cost of one model, over rows of a search space.

    Args:
        table (CostTable): The cost table.
        space (SearchSpace): Gives the meaning of a row.
        extra (dict[str, CostFunction]): Further costs, e.g. a latency table bound to
            this model.
    """

    def __init__(
        self,
        table: CostTable,
        space: SearchSpace,
        extra: dict[str, CostFunction] | None = None,
    ) -> None:
        self.table = table
        self.space = space
        self.functions = {**COSTS.module_dict, **(extra or {})}

    def with_(self, extra: dict[str, CostFunction]) -> Costs:
        """Return these costs and ``extra`` ones; the original stays as it is."""
        return Costs(self.table, self.space, {**self.functions, **extra})

    def names(self) -> list[str]:
        """Names of the costs that can be asked for."""
        return sorted(self.functions)

    def of_rows(self, name: str, rows: Tensor | np.ndarray) -> Tensor:
        """Cost of encoded policies.

        Args:
            name (str): Name of the cost.
            rows (Tensor | np.ndarray): ``(..., len(space))``; real values are
                allowed and gradients flow through a tensor.

        Returns:
            Tensor: float64 of shape ``(...)``.
        """
        rows = torch.as_tensor(rows)
        if rows.dim() == 2 and len(rows) > CHUNK:
            return torch.cat([self.of_rows(name, part) for part in rows.split(CHUNK)])
        return self.functions[name](
            self.table, *self.space.split(rows.to(torch.float64)))

    def of(self, policy: Policy) -> dict[str, float]:
        """All costs of one policy."""
        row = self.space.encode(policy)[0]
        return {name: float(self.of_rows(name, row)) for name in self.names()}

    def dense(self) -> dict[str, float]:
        """All costs of the uncompressed model."""
        return self.of(Policy())


def costs_of(graph: ModelGraph, policy: Policy) -> dict[str, float]:
    """All costs of one policy, of whatever widths and bits, without a search.

    Args:
        graph (ModelGraph): The dense model.
        policy (Policy): For this model.
    """
    space = SearchSpace.from_graph(
        graph, weight_bits={name: (b.weight,) for name, b in policy.bits.items()},
        activation_bits={name: (b.activation,) for name, b in policy.bits.items()})
    return Costs(CostTable.from_graph(graph), space).of(policy)
