"""What the pictures need to know about a model, small enough for a JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..policy import IN, ChannelUnit, ModelGraph


@dataclass(frozen=True)
class UnitSummary:
    """A channel unit without its positions.

    Args:
        name (str): Name of the unit.
        width (int): Dense width.
        granularity (int): Real channels per unit channel.
        share (float): Share of the dense MACs in layers that produce or consume
            its channels. A layer belongs to the unit before it and to the one
            after it, so shares do not add up to 1.
        producers, consumers, others (tuple[str, ...]): Conv and linear layers
            that produce the channels, those that consume them, and norms or
            bare parameters that hold them.
    """

    name: str
    width: int
    granularity: int
    share: float
    producers: tuple[str, ...] = ()
    consumers: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerSummary:
    """A conv or linear layer: its name and its share of the dense MACs."""

    name: str
    share: float


@dataclass(frozen=True)
class GraphSummary:
    """A traced model without its arrays; see :class:`ModelGraph`."""

    units: tuple[UnitSummary, ...]
    layers: tuple[LayerSummary, ...]
    macs: int
    params: int
    governed: float
    input_shape: tuple[int, ...]
    fingerprint: str
    excluded: Mapping[str, str] = field(default_factory=dict)
    unsupported: Mapping[str, int] = field(default_factory=dict)
    unvisited: tuple[str, ...] = ()


def _summarise_unit(unit: ChannelUnit, macs: Mapping[str, int]) -> UnitSummary:
    producers, consumers, others = {}, {}, {}
    for member in unit.members:
        if member.layer not in macs:
            others[member.layer] = None
        elif member.side == IN:
            consumers[member.layer] = None
        else:
            producers[member.layer] = None
    total = sum(macs.values())
    touched = sum(macs[name] for name in {**producers, **consumers})
    return UnitSummary(
        unit.name, unit.width, unit.granularity, touched / total if total else 0.0,
        tuple(producers), tuple(consumers), tuple(others))


def summarise(graph: ModelGraph | GraphSummary) -> GraphSummary:
    """Reduce a traced model to what the pictures show."""
    if isinstance(graph, GraphSummary):
        return graph
    macs = {layer.name: layer.macs for layer in graph.layers}
    total = sum(macs.values())
    return GraphSummary(
        units=tuple(_summarise_unit(unit, macs) for unit in graph.units),
        layers=tuple(LayerSummary(n, m / total if total else 0.0)
                     for n, m in macs.items()),
        macs=total, params=int(graph.params), governed=float(graph.governed),
        input_shape=tuple(graph.input_shape), fingerprint=graph.fingerprint,
        excluded=dict(graph.excluded), unsupported=dict(graph.unsupported),
        unvisited=tuple(graph.unvisited))
