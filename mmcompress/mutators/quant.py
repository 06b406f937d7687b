"""Makes a live model compute at the bits of a policy, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..arithmetic.quantizers import fake_quantise
from ..arithmetic.ranges import (
    OBSERVERS,
    Sample,
    Symmetric,
    activation_range,
    weight_scales,
)
from ..arithmetic.slices import put, take
from ..data.images import Batch
from ..errors import PolicyError
from ..layers.quantised import QuantLayer
from ..layers.rule import rule_of
from ..plain import names_of
from ..policy import FLOAT, IN, Bits, ModelGraph, Policy
from ..quant.calibration import observe, samples, shared_inputs
from ..quant.presets import bit_choices
from ..reconstruction.patches import has_patches, kept_columns, measure_patches
from ..reconstruction.rounding import gptq_scales
from ..registry import MUTATORS
from ..surgery.heads import call_layers
from ..surgery.quantise import make_quantisable
from .base import NO_IMAGES, Calibration, Kept, Mutator, Values

ROUNDINGS = ('nearest', 'gptq')
BITS = (*range(2, 9), FLOAT)


@MUTATORS.register_module()
class QuantMutator(Mutator):
    """Fake-quantises the layers of a policy at its bits.

    Ranges of activations are found once, on calibration images, and remembered per
    bit width; layers that read the same tensor get one range. Weights are quantised
    after slicing: in a narrower layer each output channel takes a scale of its own
    for the inputs that it still has. Without gradients a weight is quantised once
    per policy, and once for all where the layer has its dense width.

    A layer that has a bias is corrected by the mean that quantising its weight
    takes from its outputs (Nagel et al., ICCV 2019, sec. 4.2, with measured input
    means). Layers without one are followed by a norm, which dynamic BN corrects.

    Args:
        bits (Sequence[int]): Choices of every layer, 2 to 8; 32 adds float.
            Defaults to (4, 6, 8).
        weight_bits, activation_bits (Sequence[int] | None): Choices for one of the
            two. Default to ``bits``.
        keep8 (Sequence[str]): Layers that stay at 8 bits; see
            :func:`mmcompress.quant.presets.preset`. Defaults to the first layer
            and those that predict.
        skip (Sequence[str]): Layers that stay in float. Defaults to none.
        observer (str): How ranges are found: ``'mse'``, ``'output'`` (least error
            in the outputs of the layers that read a tensor), ``'percentile'`` or
            ``'minmax'``. Defaults to 'mse'.
        symmetric (bool | str): Symmetric ranges of activations; ``'signed'``: whose
            zero point is always in the middle, as TensorRT needs it. Defaults to False.
        bias_correction (bool): Defaults to True.
        rounding (str): ``'nearest'``, or ``'gptq'``: the weights of a layer are rounded
            together so that their errors cancel in its outputs on the calibration
            images, and so are its scales chosen
            (:mod:`mmcompress.reconstruction.rounding`). Layers that
            :func:`mmcompress.reconstruction.patches.has_patches` does not know, and all
            while gradients are enabled, are rounded to the nearest. Defaults to
            'nearest'.
    """

    def __init__(
        self,
        bits: Sequence[Literal[BITS]] = (4, 6, 8),
        weight_bits: Sequence[Literal[BITS]] | None = None,
        activation_bits: Sequence[Literal[BITS]] | None = None,
        keep8: str | Sequence[str] = ('first', 'predictors'),
        skip: str | Sequence[str] = (),
        observer: Literal[OBSERVERS] = 'mse',
        symmetric: Symmetric = False,
        bias_correction: bool = True,
        rounding: Literal[ROUNDINGS] = 'nearest',
    ) -> None:
        self.weight_bits = tuple(weight_bits or bits)
        self.activation_bits = tuple(activation_bits or bits)
        self.keep8, self.skip = names_of(keep8), names_of(skip)
        self.observer, self.symmetric = observer, symmetric
        self.bias_correction, self.rounding = bias_correction, rounding

    @cached_property
    def space_options(self) -> dict:
        """What this mutator says about the search space."""
        def choices(bits: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
            return bit_choices(
                self.graph, list(self.layers), bits, self.keep8, self.skip)

        return dict(weight_bits=choices(self.weight_bits),
                    activation_bits=choices(self.activation_bits), prune=False)

    @property
    def quantiser(self) -> QuantMutator:
        """See :class:`Mutator`."""
        return self

    def prepare(
        self, model: nn.Module, graph: ModelGraph,
        calibration: Calibration = NO_IMAGES,
    ) -> None:
        """Make the layers quantisable, and watch their inputs.

        The outputs of the model and its state dict do not change. Call once, after
        its channels have been sorted.

        Args:
            model (nn.Module): The dense model, in evaluation mode.
            graph (ModelGraph): Its layers.
            calibration (Calibration): Its batches give the ranges.
        """
        self.model, self.graph = model, graph
        call_layers(model)
        names = make_quantisable(
            model, [layer.name for layer in graph.layers], bool(self.symmetric))
        modules = dict(model.named_modules())
        self.layers: dict[str, QuantLayer] = {name: modules[name] for name in names}
        self.groups = shared_inputs(model, names, graph.trace_shape)
        statistics = observe(model, names, calibration.batches)
        self.samples: dict[str, Sample] = samples(
            statistics, self.groups,
            self.layers if self.observer == 'output' else None)
        self.means = {name: statistics[name].mean for name in names
                      if self.layers[name].bias is not None}
        self._ranges: dict[tuple[str, int], tuple[float, float]] = {}
        self._weights: dict[tuple[str, int, int], tuple[int, Tensor, Tensor]] = {}
        assert self.space_options  # a wrong pattern shows before the search
        self.covariances: dict[str, dict[int, Tensor]] = {}
        if self.rounding == 'gptq':
            self._measure_patches(calibration.batches)

    # -- acting --------------------------------------------------------------
    def act(self, policy: Policy, kept: Kept) -> Iterator[Values]:
        """See :meth:`Mutator.act`; layers that are absent stay in float."""
        for name, bits in policy.bits.items():
            yield from self._act(name, bits, kept.get(name, {}).get(IN))

    def _act(self, name: str, bits: Bits, kept: np.ndarray | None) -> Iterator[Values]:
        layer = self.layers[name]
        if bits.weight < FLOAT:
            values = {}
            training = torch.is_grad_enabled()
            scale, weight = self._quantised(
                name, bits.weight, None if training else bits.activation, kept)
            if layer.bias is not None and self.bias_correction:
                values['bias'] = layer.bias + self._correction(
                    name, layer, layer.weight.detach() - weight, kept)
            if training:
                yield layer.weight_quantizer, dict(
                    bits=bits.weight, scale=scale, calibrated=True)
            else:
                values['weight'] = weight
            yield layer, values
        if bits.activation < FLOAT:
            scale, zero = self.range(name, bits.activation)
            like = layer.weight
            yield layer.input_quantizer, dict(
                bits=bits.activation, calibrated=True,
                scale=like.new_full((1,), scale),
                zero_point=like.new_full((1,), zero))

    # -- values --------------------------------------------------------------
    def range(self, name: str, bits: int) -> tuple[float, float]:
        """Scale and zero point of a layer's input at a bit width."""
        key = (self.groups[name], bits)
        if key not in self._ranges:
            if key[0] not in self.samples:
                raise PolicyError(
                    f'No calibration image reaches the layer {name!r}, so it cannot '
                    'be quantised; add it to skip.')
            self._ranges[key] = activation_range(
                self.samples[key[0]], bits, self.observer, self.symmetric)
        return self._ranges[key]

    def _measure_patches(self, batches: Sequence[Batch]) -> None:
        """Measure what the layers multiply, at all choices of activation bits."""
        known = {n: layer for n, layer in self.layers.items() if has_patches(layer)}
        if others := [name for name in self.layers if name not in known]:
            print_log('Their weights are rounded to the nearest, as the layers are '
                      f'transposed, irregular or too large: {", ".join(others)}.',
                      'current', level=30)
        choices = self.space_options['activation_bits']

        def views(name: str, columns: Tensor) -> dict[int, Tensor]:
            return {bits: columns if bits == FLOAT
                    else self.activation(name, columns, bits)
                    for bits in choices[name]}

        self.covariances = measure_patches(self.model, known, batches, views)

    def _quantised(
        self, name: str, bits: int, activation: int | None,
        kept: np.ndarray | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Scales and fake-quantised weight of a layer as it is at the moment.

        Args:
            name (str): The layer.
            bits (int): Of its weight.
            activation (int | None): Bits of its input, None to round to the nearest.
            kept (np.ndarray | None): Input channels that it has at the moment.
        """
        layer = self.layers[name]
        key = (name, bits, self._view(name, activation))
        dense = 'weight' not in layer.__dict__
        version = layer.weight._version
        if dense and (known := self._weights.get(key)) \
                and known[0] == version and known[2].device == layer.weight.device:
            return known[1:]
        found = self._rounded(layer.weight.detach(), *key, kept)
        if dense:
            self._weights[key] = (version, *found)
        return found

    def _view(self, name: str, activation: int | None) -> int:
        """Bits of the measured inputs that suit best, 0 for none: to the nearest."""
        if activation is None or name not in self.covariances:
            return 0
        measured = sorted(self.covariances[name])
        return next((bits for bits in measured if bits >= activation), measured[-1])

    @torch.no_grad()
    def _rounded(
        self, weight: Tensor, name: str, bits: int, view: int, kept: np.ndarray | None
    ) -> tuple[Tensor, Tensor]:
        """Scales of the output channels, and the fake-quantised weight.

        Args:
            weight (Tensor): Of the layer, or a slice of it.
            name, bits, view: The layer, its weight bits, and see :meth:`_view`.
            kept (np.ndarray | None): Input channels that the slice has.
        """
        layer = self.layers[name]
        scale, nearest = quantised_weight(layer, weight, bits, self.observer)
        if not view:
            return scale, nearest
        covariance = self.covariances[name][view].to(weight.device)
        covariance = kept_columns(covariance, kept, rule_of(layer).window_size(layer))
        rows = weight.reshape(len(covariance), -1, covariance.shape[1])
        scale, rounded = gptq_scales(
            rows, covariance, scale.reshape(rows.shape[:2]), 2 ** (bits - 1) - 1)
        return scale.flatten(), rounded.reshape(weight.shape)

    def _correction(
        self, name: str, layer: QuantLayer, lost: Tensor, kept: np.ndarray | None
    ) -> Tensor:
        """Mean of what the outputs lose with ``lost`` taken from the weight."""
        mean = self.means[name].to(lost)
        if kept is not None:
            mean = mean[torch.as_tensor(kept, device=mean.device)]
        return rule_of(layer).mean_output(layer, lost, mean)

    # -- the quantised model ---------------------------------------------------
    @torch.no_grad()
    def write(self, model: nn.Module, policy: Policy, kept: Kept) -> None:
        """Give a copy of the dense model the bits and scales of ``policy``, for good.

        The scales are those of the inputs that will be kept.
        """
        modules = dict(model.named_modules())
        for name, bits in policy.bits.items():
            layer: QuantLayer = modules[name]
            into = kept.get(name, {}).get(IN)
            layer.set_bits(bits)
            if bits.weight < FLOAT:
                within = rule_of(layer).window(layer, into)
                # Of groups that leave as a whole, the others keep all inputs.
                into = None if within is None else into
                weight = take(layer.weight, 1 - layer.axis, within)
                view = self._view(name, bits.activation)
                scale, quantised = self._rounded(weight, name, bits.weight, view, into)
                layer.weight_quantizer.assign(scale)
                if layer.bias is not None and self.bias_correction:
                    layer.bias.add_(self._correction(
                        name, layer, weight - quantised, into))
                if view:  # Rounding what is rounded changes nothing.
                    put(layer.weight, 1 - layer.axis, within, quantised)
            if bits.activation < FLOAT:
                layer.input_quantizer.assign(*self.range(name, bits.activation))

    # -- prices ----------------------------------------------------------------
    def weight(self, layer: str, bits: int) -> Tensor:
        """The fake-quantised dense weight of a layer."""
        return self._quantised(layer, bits, FLOAT)[1]

    def activation(self, layer: str, x: Tensor, bits: int) -> Tensor:
        """The fake-quantised input of a layer."""
        scale, zero = self.range(layer, bits)
        return fake_quantise(
            x, x.new_full((1,), scale), -zero, 2 ** bits - 1 - zero)

    def check(self, policy: Policy) -> None:
        """Raise :class:`PolicyError` unless the bits fit the model."""
        for name, bits in policy.bits.items():
            if name not in self.layers:
                raise PolicyError(
                    f'The policy gives bits to the layer {name!r}, which this model '
                    'does not have or which cannot be quantised. Use a policy searched '
                    'on this model.')
            for value in bits:
                if not (2 <= value <= 8 or value == FLOAT):
                    raise PolicyError(
                        f'The policy gives {value} bits to {name!r}; 2 to 8 or {FLOAT} '
                        'are possible.')


def quantised_weight(
    layer: QuantLayer, weight: Tensor, bits: int, observer: str
) -> tuple[Tensor, Tensor]:
    """Scales of the output channels, and the fake-quantised weight.

    Args:
        layer (QuantLayer): Says which axis the output channels are on.
        weight (Tensor): Its weight, or a slice of it.
        bits (int): Bit width.
        observer (str): See :func:`mmcompress.arithmetic.ranges.weight_scales`.
    """
    scale = weight_scales(
        weight.movedim(layer.axis, 0).flatten(1), bits, observer)
    shape = [1] * weight.dim()
    shape[layer.axis] = -1
    top = 2 ** (bits - 1) - 1
    return scale, fake_quantise(weight, scale.reshape(shape), -top, top)
