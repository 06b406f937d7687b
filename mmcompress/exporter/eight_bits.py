"""Putting a trained network into 8 bits, but for the layers that do not bear it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from ..arithmetic.ranges import OBSERVERS, Symmetric
from ..data.images import Batch
from ..errors import CompressionError
from ..graph import trace
from ..layers.quantised import quantised_layers
from ..layers.rule import obstacle
from ..mutators.rebuild import quantise
from ..options import NotNegative, check_values
from ..policy import Bits, ModelGraph, Policy
from ..quant.calibration import calibrate
from ..quant.presets import preset
from .export import ExportOptions, FloatPart
from .quantise.float_layers import (
    LIMIT,
    FloatLayers,
    Progress,
    find_float_layers,
)
from .quantise.plan import plan_in, plan_of

WEIGHT_BITS = 7
"""Of INT8 weights. CPUs without VNNI add two products in 16 bits, and cut off sums that
do not fit; those of 7 bits always do (2 x 63 x 255 < 2^15)."""


@dataclass(frozen=True)
class EightBits:
    """How a network is put into 8 bits.

    Args:
        limit (float): Largest error; see
            :meth:`.quantise.float_layers.Reference.error`. Defaults to
            :data:`.quantise.float_layers.LIMIT`.
        skip (tuple[str, ...] | None): Layers that stay in float, by name, pattern or
            preset (:func:`mmcompress.quant.presets.preset`). Defaults to None: those
            that the limit asks for.
        observer (str): How ranges are found. Defaults to 'mse'.
        symmetric (bool | str): Symmetric ranges of activations, see
            :func:`.activation_range`. Defaults to False.
        weight_bits (int): Defaults to :data:`WEIGHT_BITS`.
    """

    limit: NotNegative = LIMIT
    skip: tuple[str, ...] | None = None
    observer: Literal[OBSERVERS] = 'mse'
    symmetric: Symmetric = False
    weight_bits: Literal[7, 8] = WEIGHT_BITS

    def __post_init__(self) -> None:
        check_values('8 bits', type(self), vars(self))


@dataclass(frozen=True)
class Quantised:
    """What was put into 8 bits, and what was not.

    Args:
        layers (int): Layers in 8 bits.
        floats (tuple[str, ...]): Those in float, the worst first.
        error (float | None): Of the network as it is written. None if it was not
            measured.
        before (float | None): Of the network with all layers in 8 bits.
        errors (Mapping[str, float]): Of single layers in 8 bits, where measured.
    """

    layers: int
    floats: tuple[str, ...]
    error: float | None = None
    before: float | None = None
    errors: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        text = f'{self.layers} layers in 8 bits'
        if self.floats:
            text += f', {len(self.floats)} in float: {", ".join(self.floats)}'
        if self.error is None:
            return text
        text += f'; error {self.error:.3g} of the variance of the outputs'
        if self.before is not None and self.before != self.error:
            text += f' ({self.before:.3g} with all of them in 8 bits)'
        return text


def quantise_layers(
    model: nn.Module, shape: Sequence[int], batches: Sequence[Batch],
    options: EightBits,
) -> ModelGraph:
    """Put all layers that can be quantised into 8 bits, calibrated, in place.

    Args:
        model (nn.Module): A network in float, in evaluation mode.
        shape (Sequence[int]): ``(C, H, W)`` of the preprocessed image.
        batches (Sequence[Batch]): Calibration images.
        options (EightBits): Those of ``skip`` stay in float.

    Returns:
        ModelGraph: The network as it was traced.

    Raises:
        CompressionError: It is quantised already, or nothing in it can be.
    """
    if any(not layer.bits.is_float for layer in quantised_layers(model).values()):
        raise CompressionError(
            'The policy has bits already; leave --int8 out to export them.')
    graph = trace(model, tuple(shape))
    modules = dict(model.named_modules())
    skipped = set().union(*(preset(graph, name) for name in options.skip or ()))
    names = [layer.name for layer in graph.layers
             if layer.name not in skipped and not obstacle(modules[layer.name])]
    if not names:
        raise CompressionError('No layer of this network can be put into 8 bits.')
    bits = dict.fromkeys(names, Bits(options.weight_bits, 8))
    quantise(model, Policy(bits=bits), graph.trace_shape, bool(options.symmetric))
    layers = {name: layer for name, layer in quantised_layers(model).items()
              if not layer.bits.is_float}
    calibrate(model, layers, batches, options.observer, options.symmetric)
    return graph


def leave_in_float(
    model: nn.Module, parts: Sequence[FloatPart], options: ExportOptions,
    bits: EightBits, progress: Progress = lambda done, total: None,
) -> Quantised:
    """Put the layers back into float that cost the outputs too much, in place.

    Layers that are in no file, e.g. heads for training, go back too.

    Args:
        model (nn.Module): See :func:`quantise_layers`.
        parts (Sequence[FloatPart]): See :func:`.export.float_parts`.
        options (ExportOptions): With calibration images.
        bits (EightBits): The limit, or the layers to skip.
        progress (Progress): Told about the measurements.

    Raises:
        ExportError: Not a single layer may be in integers.
    """
    plan, used, found = plan_of(model), set(), []
    modules = dict(model.named_modules())
    for part in parts:
        mine = plan_in(part.network.graph, plan)
        used |= set(mine)
        if bits.skip is not None or not mine:
            continue
        images = part.part.inputs_of(options.images)
        choice = find_float_layers(
            part.network, mine, images, bits.limit, progress, options.rules,
            part.measured, options.half_weights)
        plan = {k: v for k, v in plan.items() if k not in choice.names}
        for name in choice.names:  # quantisers of their own, at 32 bits
            modules[name].become_quantised(bool(bits.symmetric))
        found.append(choice)
    for name in plan.keys() - used:
        modules[name].become_quantised(bool(bits.symmetric))
    return _summary(len(plan.keys() & used), found, bits)


def _summary(
    layers: int, found: Sequence[FloatLayers], bits: EightBits
) -> Quantised:
    if not found:
        return Quantised(layers, bits.skip or ())
    return Quantised(
        layers, tuple(name for choice in found for name in choice.names),
        max(choice.error for choice in found),
        max(choice.before for choice in found),
        {name: error for choice in found for name, error in choice.errors.items()})


def bits_of(model: nn.Module) -> dict[str, Bits]:
    """Bits of the layers that are quantised, for a policy."""
    return {name: layer.bits for name, layer in quantised_layers(model).items()
            if not layer.bits.is_float}
