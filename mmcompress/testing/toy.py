"""A small network, written down by hand, with every kind of channel unit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..costs import Costs, CostTable
from ..policy import (
    FLOAT,
    IN,
    OUT,
    ChannelScores,
    ChannelUnit,
    Layer,
    Member,
    ModelGraph,
    SearchSpace,
)

TOY_MACS = 979_968
TOY_PARAMS = 15_100


def toy_graph() -> ModelGraph:
    """Describe a toy detector on 3 x 16 x 16 images.

    ========  ==========================  =======  =========  ==================
    layer     what                        weights  positions  remarks
    ========  ==========================  =======  =========  ==================
    stem      conv 3 -> 16, 3x3           432      64         norm ``stem_bn``
    reduce    conv 16 -> 8, 1x1           128      64         norm ``reduce_bn``
    expand    conv 8 -> 16, 3x3           1152     64         added to the stem
    depth     depthwise conv 16, 3x3      144      64         norm ``depth_bn``
    point     conv 16 -> 24, 1x1          384      64
    merge     conv 40 -> 32, 1x1          1280     64         cat(point, depth)
    head      conv 32 -> 32, 3x3          9216     64 + 16    two pyramid levels
    predict   conv 32 -> 6, 1x1, bias     192      64 + 16    not prunable
    fc        linear 32 * 4 -> 16, bias   2048     1          flattened 2x2 map
    ========  ==========================  =======  =========  ==================

    Parameters: 14976 weights, 6 + 16 biases, 2 per channel of the three norms
    (2 * (16 + 8 + 16) = 80) and 22 loose scales that no unit governs: 15100.
    MACs: 64 * (432 + 128 + 1152 + 144 + 384 + 1280) = 225280 before the head,
    80 * (9216 + 192) = 752640 in head and prediction, 2048 in fc: 979968.
    """
    small = dict(reads=64, writes=64)
    layers = (
        Layer('stem', 'conv', 16, 3, kernel=9, positions=64, reads=256, writes=64),
        Layer('reduce', 'conv', 8, 16, positions=64, **small),
        Layer('expand', 'conv', 16, 8, kernel=9, positions=64, **small),
        Layer('depth', 'conv', 16, 16, groups=16, kernel=9, positions=64, **small),
        Layer('point', 'conv', 24, 16, positions=64, **small),
        Layer('merge', 'conv', 32, 40, positions=64, **small),
        Layer('head', 'conv', 32, 32, kernel=9, positions=80, calls=2, **small),
        Layer('predict', 'conv', 6, 32, has_bias=True, positions=80, calls=2, **small),
        Layer('fc', 'linear', 16, 128, has_bias=True),
    )
    return ModelGraph(
        units=_units(), layers=layers, params=TOY_PARAMS,
        norm_params={'stem_bn': 2, 'reduce_bn': 2, 'depth_bn': 2},
        input_shape=(3, 16, 16), fingerprint='toy')


def _units() -> tuple[ChannelUnit, ...]:
    def member(layer: str, side: str, width: int, start: int = 0, count: int = 1):
        positions = start + np.arange(width * count).reshape(width, count)
        return Member(layer, side, positions)

    return (
        # A residual sum ties two producers; depthwise convs pass channels through.
        ChannelUnit('stem', (
            member('stem', OUT, 16), member('stem_bn', OUT, 16),
            member('reduce', IN, 16), member('expand', OUT, 16),
            member('depth', OUT, 16), member('depth', IN, 16),
            member('depth_bn', OUT, 16), member('point', IN, 16),
            member('merge', IN, 16, start=24))),
        ChannelUnit('reduce', (
            member('reduce', OUT, 8), member('reduce_bn', OUT, 8),
            member('expand', IN, 8))),
        ChannelUnit('point', (
            member('point', OUT, 24), member('merge', IN, 24))),
        ChannelUnit('merge', (
            member('merge', OUT, 32), member('head', IN, 32))),
        # One channel of the head feeds four inputs of the linear layer.
        ChannelUnit('head', (
            member('head', OUT, 32), member('predict', IN, 32),
            member('fc', IN, 32, count=4))),
    )


def toy_space(
    weight_bits: Sequence[int] = (FLOAT,),
    activation_bits: Sequence[int] = (FLOAT,),
    divisor: int = 2,
    prune: bool = True,
) -> SearchSpace:
    """Search space of :func:`toy_graph`; see :meth:`SearchSpace.from_graph`."""
    return SearchSpace.from_graph(
        toy_graph(), divisor=divisor, weight_bits=weight_bits,
        activation_bits=activation_bits, prune=prune)


def toy_costs(space: SearchSpace | None = None) -> Costs:
    """Costs of :func:`toy_graph` over a space of it."""
    space = toy_space() if space is None else space
    return Costs(CostTable.from_graph(toy_graph()), space)


def chain_graph(layers: int, units: int | None = None, width: int = 256) -> ModelGraph:
    """Describe a chain of 3x3 convs, large enough to measure speed on.

    Args:
        layers (int): Number of layers.
        units (int, optional): Layers whose output is prunable, the first ones; all
            of them by default.
        width (int): Channels of every layer. Defaults to 256.
    """
    units = layers if units is None else units
    positions = np.arange(width)[:, None]
    convs = tuple(
        Layer(f'l{i}', 'conv', width, width, kernel=9, positions=400)
        for i in range(layers))
    return ModelGraph(
        units=tuple(
            ChannelUnit(f'l{i}', (
                Member(f'l{i}', OUT, positions),
                *([Member(f'l{i + 1}', IN, positions)] if i + 1 < layers else [])))
            for i in range(units)),
        layers=convs, params=sum(c.weights for c in convs), norm_params={},
        input_shape=(3, 20, 20), fingerprint='wide')


def toy_scores(seed: int = 0) -> ChannelScores:
    """Random base scores of :func:`toy_graph`, descending in every unit."""
    rng = np.random.default_rng(seed)
    layers = {layer.name for layer in toy_graph().layers}
    scores = ChannelScores('l2', {
        unit.name: {m.layer: rng.exponential(size=unit.width)
                    for m in unit.producers if m.layer in layers}
        for unit in toy_graph().units})
    return scores.reordered({
        unit: np.argsort(-total) for unit, total in scores.summed().items()})
