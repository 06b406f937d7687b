"""How much each channel of a unit matters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import CompressionError, DataError
from ..layers.rule import is_layer, rule_of
from ..policy import ChannelScores, ModelGraph
from ..reconstruction.order import eliminate
from ..reconstruction.units import readers_of
from .base import NO_IMAGES, Calibration

KINDS = ('l1', 'l2', 'bn_scale', 'taylor', 'index', 'obs')


def importance(
    model: nn.Module,
    graph: ModelGraph,
    kind: str = 'l2',
    losses: Iterable[Callable[[], Tensor]] = (),
) -> dict[str, np.ndarray]:
    """Score every channel of every unit; see :func:`channel_scores`.

    Scores of tied members are summed (LeGR's released code does the same).

    Returns:
        dict[str, np.ndarray]: By unit name, float64 of shape ``(width,)``.
    """
    return channel_scores(
        model, graph, kind, Calibration(losses=lambda: losses)).summed()


def channel_scores(
    model: nn.Module,
    graph: ModelGraph,
    kind: str = 'l2',
    calibration: Calibration = NO_IMAGES,
) -> ChannelScores:
    """Score every channel of every unit in every layer that produces it.

    Args:
        model (nn.Module): The model.
        graph (ModelGraph): Its units.
        kind (str): ``'l1'`` or ``'l2'``: sum of absolute or squared weights that
            produce the channel; the scale of the norms where all of these are
            standardised, so that their size says nothing. ``'bn_scale'``: absolute
            scale of the norms on the channel (Network Slimming, ICCV 2017); units
            without a norm use l2. ``'taylor'``: squared sum of weight x gradient
            (Molchanov et al., CVPR 2019, eq. 8), accumulated over ``losses``, of
            weights that are not standardised. ``'index'``: the channels stay in their
            order, as a supernet was trained in it. ``'obs'``: what the readers of the
            unit lose, beyond repair, once the channel and all cheaper ones are gone
            (:mod:`mmcompress.reconstruction.order`); a unit that no layer without
            groups reads uses l2.
        calibration (Calibration): Its losses serve ``'taylor'``, its batches ``'obs'``.

    Returns:
        ChannelScores: Apart for the layers (or norms) that gave them.

    Raises:
        CompressionError: Unknown ``kind``.
        DataError: ``'taylor'`` without any loss, or ``'obs'`` without images.
    """
    if kind not in KINDS:
        raise CompressionError(
            f'Unknown importance {kind!r}; choose one of {", ".join(KINDS)}.')
    if kind == 'index':
        return ChannelScores(kind, {
            unit.name: {unit.producers[0].layer: np.arange(unit.width, 0, -1.0)}
            for unit in graph.units})
    modules = dict(model.named_modules())
    if kind == 'obs':
        known = _obs(model, graph, calibration)
        rest = replace(graph, units=tuple(
            unit for unit in graph.units if unit.name not in known))
        return ChannelScores(kind, {**channel_scores(model, rest).units, **known})
    if kind == 'taylor':
        per_layer = _taylor(modules, calibration.losses())
    else:
        per_layer = {n: _magnitude(m, kind) for n, m in modules.items()}
    units: dict[str, dict[str, np.ndarray]] = {}
    for unit in graph.units:
        parts = [(m, per_layer.get(m.layer)) for m in unit.producers]
        for other in ('l2', 'bn_scale'):
            if all(score is None for _, score in parts):
                parts = [(m, _magnitude(modules.get(m.layer), other)) for m, _ in parts]
        if all(score is None for _, score in parts):  # standardised, and no norm
            parts = [(m, np.ones(m.positions.max() + 1)) for m, _ in parts]
        layers = units.setdefault(unit.name, {})
        for member, score in parts:
            if score is not None:
                part = score[member.positions].sum(axis=1)
                layers[member.layer] = layers.get(member.layer, 0) + part
    return ChannelScores(kind, units)


def _obs(
    model: nn.Module, graph: ModelGraph, calibration: Calibration
) -> dict[str, dict[str, np.ndarray]]:
    """Loss at which each channel goes, by unit and its first producer."""
    moments = calibration.measured(model, graph)
    found = {}
    for unit in graph.units:
        if own := readers_of(model, unit, moments):
            gone = eliminate(own, unit.width)
            order, losses = gone.order.numpy(), gone.losses.cpu().numpy()
            # Rounding must not change the order.
            rising = np.maximum.accumulate(losses[1:].clip(0)) * (
                1 + 1e-9 * np.arange(unit.width))
            score = np.empty(unit.width)
            score[order] = rising + 1e-300 * np.arange(unit.width)
            found[unit.name] = {unit.producers[0].layer: score}
    return found


def _magnitude(module: nn.Module | None, kind: str) -> np.ndarray | None:
    rule = rule_of(module)
    if kind == 'bn_scale':
        scale = None if rule is None else rule.scale(module)
        return None if scale is None else scale.detach().double().abs().cpu().numpy()
    weight = rule.weight(module) if is_layer(module) else None
    if weight is None:
        return None
    weight = weight.detach().double()
    size = weight.abs() if kind == 'l1' else weight.square()
    return rule.by_output(module, size).flatten(1).sum(1).cpu().numpy()


def _taylor(
    modules: dict[str, nn.Module], losses: Iterable[Callable[[], Tensor]]
) -> dict[str, np.ndarray]:
    # The gradient of a standardised weight is orthogonal to it: products are zero.
    layers = {n: m for n, m in modules.items()
              if is_layer(m) and rule_of(m).weight(m) is not None}
    weights = [m.weight for m in layers.values()]
    sums = dict.fromkeys(layers, 0.0)
    count = 0
    with _requiring_grad(weights):
        for loss in losses:
            count += 1
            grads = torch.autograd.grad(loss(), weights, allow_unused=True)
            for (name, module), grad in zip(layers.items(), grads):
                if grad is not None:
                    rows = rule_of(module).by_output(
                        module, module.weight.detach() * grad).flatten(1)
                    sums[name] += rows.sum(1).double().square().cpu().numpy()
    if not count:
        raise DataError("importance='taylor' needs calibration images with labels.")
    return {n: s for n, s in sums.items() if isinstance(s, np.ndarray)}


@contextmanager
def _requiring_grad(weights: list[Tensor]):
    """Frozen stages have scores too."""
    flags = [w.requires_grad for w in weights]
    for weight in weights:
        weight.requires_grad_(True)
    try:
        yield
    finally:
        for weight, flag in zip(weights, flags):
            weight.requires_grad_(flag)
