"""Where an error of a layer changes what the network says.

Most places of a detector's maps are background: an error there changes no detection.
The squared gradient of the network's outputs with respect to a layer's output tells how
much one does (the Gauss-Newton weight of GuidedQuant, Kim et al., ICML 2025, here one
for every place). Labels are not needed: outputs are projected on random signs, which
gives the sum over all outputs in expectation (Hutchinson).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from ..arithmetic.labels import tensors_in
from ..data.images import Batch
from ..kinds import kind_of
from ..layers.rule import rule_of
from ..surgery.hooks import hooked

GUIDED = 0.8
"""Share of the places that are drawn by their weight; the others may be any."""


def calls(
    model: nn.Module, layers: Mapping[str, nn.Module], batch: Batch,
    generator: torch.Generator,
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Run a batch and tell of every call of a layer.

    Memory: that of a forward and backward pass of the batch with respect to the images.

    Args:
        model (nn.Module): In evaluation mode; no gradient of its parameters is kept.
        layers (Mapping[str, nn.Module]): Layers by name.
        batch (Batch): Unlabelled images.
        generator (torch.Generator): Of the signs.

    Yields:
        tuple[str, Tensor, Tensor]: The layer's name, its input, and the weights of the
        ``n`` places of its output, images first, then rows; not negative, and of sum 1
        unless the outputs do not depend on the layer.
    """
    names: list[str] = []
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def watch(name: str, module: nn.Module, args: tuple, output: Tensor) -> None:
        names.append(name)
        inputs.append(args[0].detach())
        outputs.append(output)

    images = batch.inputs.detach().clone().requires_grad_(True)
    with torch.enable_grad(), hooked(
            after={module: partial(watch, name) for name, module in layers.items()}):
        total = _projected(model, Batch(images, batch.data_samples), generator)
        gradients = torch.autograd.grad(total, outputs, allow_unused=True) \
            if outputs and total.requires_grad else [None] * len(outputs)
    for name, x, output, gradient in zip(names, inputs, outputs, gradients):
        axis = rule_of(layers[name]).channel_axis(layers[name], output)
        weights = torch.zeros_like(output) if gradient is None else gradient
        weights = weights.detach().double().square().sum(axis).flatten()
        yield name, x, weights / weights.sum().clamp_min(1e-300)


def _projected(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
    """A random projection of what the model says about the images."""
    kind = kind_of(model)
    outputs = kind.raw(model, batch)
    total = batch.inputs.new_zeros(())
    if not kind.can_decode(model):
        for output in tensors_in(outputs):
            if output.is_floating_point():
                spread = output.detach().std().clamp_min(1e-12)
                total = total + (_signs(output, generator) * output).sum() / spread
        return total
    for i in range(len(batch.inputs)):
        own = [[level[i:i + 1] for level in levels] for levels in outputs]
        boxes, scores = kind.decode(model, batch.inputs[i:i + 1], own)
        # As in the distance of detections: boxes count as far as they are believed in,
        # and relative to their size.
        believed = scores.detach().amax(1)[..., None]
        sides = (boxes[..., 2:] - boxes[..., :2]).detach().clamp_min(1).repeat(1, 1, 2)
        total = total + (_signs(scores, generator) * scores).sum() + (
            _signs(boxes, generator) * boxes / sides * believed).sum()
    return total


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    signs = torch.randint(0, 2, like.shape, generator=generator)
    return (signs * 2 - 1).to(like)


def drawn_by(weights: Tensor, wanted: int, generator: torch.Generator) -> Tensor:
    """Numbers of places, most of them drawn by their weights.

    At even steps of the cumulated weights from a random start, so that equal weights
    give places that are evenly spread, and all of them once if there are no more.

    Args:
        weights (Tensor): ``(n,)`` of sum 1, or 0 throughout: then each is as likely.
        wanted (int): How many; n if there are no more.
        generator (torch.Generator): The generator.
    """
    weights = weights.cpu()
    share = GUIDED * weights + (1 - GUIDED * weights.sum()) / len(weights)
    count = min(wanted, len(weights))
    start = torch.rand((), generator=generator, dtype=torch.float64)
    places = torch.searchsorted(
        share.cumsum(0), (torch.arange(count) + start) / count)
    return places.clamp_(max=len(weights) - 1)
