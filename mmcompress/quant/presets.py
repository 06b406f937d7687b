"""Which bits every layer may take: choices, exceptions and their presets."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from ..errors import CompressionError
from ..policy import FLOAT, OUT, ModelGraph

PRESETS = ('first', 'predictors', 'classifier')


def preset(graph: ModelGraph, name: str) -> set[str]:
    """Layers that a preset stands for.

    Args:
        graph (ModelGraph): The model.
        name (str): ``'first'``: the first layer, whose input is the image.
            ``'predictors'``: layers whose output no unit governs, as it is an
            output of the network. ``'classifier'``: the linear ones of these.
            Otherwise a layer's name or a pattern such as ``'neck.*'``.

    Raises:
        CompressionError: No layer matches.
    """
    if name == 'first':
        return {graph.layers[0].name}
    if name in PRESETS:
        governed = {m.layer for u in graph.units for m in u.members if m.side == OUT}
        left_out = {unit.partition('#')[0] for unit in graph.excluded}
        found = [layer for layer in graph.layers
                 if layer.name not in governed | left_out]
        if name == 'classifier':
            found = [layer for layer in found if layer.kind == 'linear']
        return {layer.name for layer in found}
    matches = {x.name for x in graph.layers if fnmatchcase(x.name, name)}
    if not matches:
        raise CompressionError(
            f'{name!r} in keep8 or skip matches no layer; use {", ".join(PRESETS)}, a '
            f"layer's name or a pattern. Layers start with: "
            f'{", ".join(x.name for x in graph.layers[:3])}.')
    return matches


def bit_choices(
    graph: ModelGraph,
    quantisable: Sequence[str],
    bits: Sequence[int],
    keep8: Sequence[str] = (),
    skip: Sequence[str] = (),
) -> dict[str, tuple[int, ...]]:
    """Allowed bits of every layer that is not in float.

    Args:
        graph (ModelGraph): The model.
        quantisable (Sequence[str]): Layers that have a quantised kind.
        bits (Sequence[int]): 2 to 8, and 32 where float is a choice.
        keep8, skip (Sequence[str]): Presets, names or patterns of layers that stay
            at 8 bits, and of those that stay in float.

    Raises:
        CompressionError: Bits that do not exist, or a pattern without a layer.
    """
    for value in bits:
        if not (2 <= value <= 8 or value == FLOAT):
            raise CompressionError(
                f'{value} bits are not supported; choose from 2 to 8, or {FLOAT} for '
                'float.')
    if not bits:
        raise CompressionError('QuantMutator needs at least one bit width.')
    eight = set().union(*(preset(graph, name) for name in keep8))
    floating = set().union(*(preset(graph, name) for name in skip))
    return {name: (8,) if name in eight else tuple(sorted(set(bits)))
            for name in quantisable if name not in floating}
