"""Scales, zero points and biases fitted to the outputs of the float network.

Ranges of least squared error take every tensor by itself and all its values alike.
Fitting takes them together, by what matters: the outputs. It sees images without
labels and leaves the weights as they are, so it is calibration, not training; the
gradients are those of LSQ and LSQ+ (see :class:`.FakeQuantise`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from ...arithmetic.quantizers import Quantizer
from ...errors import ExportError
from ...surgery.modes import evaluating, in_float
from ..parts import FlatOutputs, parts_of

BATCH = 4
"""Images in a step."""

RATE = 2e-3
"""Learning rate of relative changes, falling to 0 along a cosine."""

ZERO_POINT = 50.0
"""Steps of a zero point that weigh as much as the whole of a scale."""


@dataclass(frozen=True)
class Fit:
    """What fitting has changed: mean squared error over variance, mean of the outputs.

    Args:
        before (float): Of the network that was given.
        after (float): Of the fitted one.
    """

    before: float
    after: float


@dataclass(frozen=True)
class Change:
    """How a parameter follows from a number that starts at 0.

    Args:
        start (Tensor): Its value before.
        unit (float | None): What a change by 1 adds. None for a scale, which is
            multiplied by the exponential, so that it stays positive.
    """

    start: Tensor
    unit: float | None

    def value(self, number: Tensor) -> Tensor:
        """The parameter."""
        if self.unit is None:
            return self.start * number.exp()
        return self.start + self.unit * number


@dataclass(frozen=True, eq=False)
class Goal:
    """The outputs of the float network on some images.

    Args:
        inputs (Tensor): The images, ``(N, C, H, W)``.
        outputs (tuple[Tensor, ...]): ``(N, ...)`` each.
    """

    inputs: Tensor
    outputs: tuple[Tensor, ...]

    @classmethod
    def of(cls, model: nn.Module, shape: tuple[int, ...], inputs: Tensor) -> Goal:
        """Run a model in float."""
        network = network_of(model, shape)
        with torch.no_grad(), evaluating(model), in_float(model):
            found = [network(x) for x in inputs.split(BATCH)]
        return cls(inputs, tuple(torch.cat(x) for x in zip(*found)))

    @cached_property
    def variances(self) -> list[float]:
        """Of each output."""
        return [float(x.var()) for x in self.outputs]

    def error(
        self, network: nn.Module, values: Mapping[str, Tensor], chosen: Tensor
    ) -> Tensor:
        """Mean squared error over the variance, mean of the outputs.

        Args:
            network (nn.Module): What is compared.
            values (Mapping[str, Tensor]): What replaces its parameters.
            chosen (Tensor): Numbers of the images.
        """
        # Of modules with several names it would restore the value, not the parameter.
        found = functional_call(
            network, values, (self.inputs[chosen],), tie_weights=False)
        return sum((got - wanted[chosen]).square().mean() / variance for
                   got, wanted, variance in zip(found, self.outputs, self.variances)
                   ) / len(self.outputs)

    @torch.no_grad()
    def mean_error(self, network: nn.Module, values: Mapping[str, Tensor]) -> float:
        """The error on all images."""
        batches = torch.arange(len(self.inputs)).split(BATCH)
        return sum(float(self.error(network, values, x)) * len(x) for x in batches
                   ) / len(self.inputs)


def fit_quantisers(
    twin: nn.Module, model: nn.Module, shape: tuple[int, ...],
    images: Sequence[np.ndarray], steps: int = 300, seed: int = 0,
) -> Fit:
    """Let a quantised network's outputs approach those of the float network.

    Args:
        twin (nn.Module): With the points between layers of its file; see
            :func:`.twin.twin_of`. Its scales, zero points and biases change in place.
        model (nn.Module): The network it was made from, which is run in float.
        shape (tuple[int, ...]): ``(C, H, W)`` of the preprocessed image.
        images (Sequence[np.ndarray]): Preprocessed calibration images, each of shape
            ``(batch, C, H, W)``.
        steps (int): Batches of 4 images. Defaults to 300.
        seed (int): Seed of their order. Defaults to 0.

    Returns:
        Fit: The errors on the images. If the second would be larger, nothing was
        changed, and it is the first.

    Raises:
        ExportError: The network has two stages, or nothing that is quantised.
    """
    network = network_of(twin, shape)
    changes = changes_of(network)
    goal = Goal.of(model, shape, torch.from_numpy(np.concatenate(images)))
    numbers = {name: torch.zeros_like(x.start, requires_grad=True)
               for name, x in changes.items()}
    optimiser = Adam(numbers.values(), RATE)
    schedule = CosineAnnealingLR(optimiser, steps)

    def values() -> dict[str, Tensor]:
        return {name: x.value(numbers[name]) for name, x in changes.items()}

    with evaluating(twin):
        before = goal.mean_error(network, values())
        for chosen in islice(shuffled(len(goal.inputs), seed), steps):
            gradients = torch.autograd.grad(
                goal.error(network, values(), chosen), list(numbers.values()))
            for number, gradient in zip(numbers.values(), gradients):
                number.grad = gradient
            optimiser.step()
            schedule.step()
        after = goal.mean_error(network, values())
    if not after < before:  # too few steps for so small an error
        return Fit(before, before)
    with torch.no_grad():
        for name, value in values().items():
            network.get_parameter(name).copy_(value)
    return Fit(before, after)


def shuffled(images: int, seed: int) -> Iterator[Tensor]:
    """Numbers of images, a batch at a time, in a new order every time round.

    A rest that fills no batch is left out, unless there is nothing else.
    """
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(images, generator=generator)
        yield from order[:max(BATCH, images // BATCH * BATCH)].split(BATCH)


def network_of(model: nn.Module, shape: tuple[int, ...]) -> FlatOutputs:
    """What a model of one stage computes.

    Raises:
        ExportError: It has two stages.
    """
    parts = parts_of(model, shape)
    if len(parts) > 1:
        raise ExportError(
            'Fitting is for networks of one stage: what the second one takes depends '
            'on what is fitted. Export without it.')
    return parts[0].network


def changes_of(network: nn.Module) -> dict[str, Change]:
    """What is fitted: scales and zero points that are learned, and all biases.

    Raises:
        ExportError: Nothing is quantised.
    """
    changes = {}
    for name, module in network.named_modules():
        if isinstance(module, Quantizer) and not module.is_float:
            if module.scale.requires_grad:
                changes[f'{name}.scale'] = Change(module.step.detach().clone(), None)
            if module.zero_point is not None and module.zero_point.requires_grad:
                changes[f'{name}.zero_point'] = Change(
                    module.zero_point.detach().clone(), ZERO_POINT)
    if not changes:
        raise ExportError('No layer is quantised: there is nothing to fit.')
    for name, parameter in network.named_parameters():
        if name.endswith('.bias'):
            start = parameter.detach().clone()
            changes[name] = Change(start, float(start.abs().mean()))
    return changes
