"""Repair of one network, layer after layer, on what its layers really read.

The closed form of :mod:`.compensation` believes that what stays of a layer's input is
what the dense network has there. In a compressed network it is not: earlier layers were
repaired and still err. Here the compressed network runs over all images at once, and
just before a layer runs, its weights are fitted to the dense layer's outputs from its
actual inputs (the asymmetric form of He et al., ICCV 2017, and of OBC, NeurIPS 2022).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.images import Batch
from ..kinds import kind_of
from ..layers.rule import rule_of
from ..surgery.hooks import hooked
from ..surgery.modes import evaluating, in_float
from ..surgery.shadow import Shadow, shadowed

SAMPLES = 20_000
"""Most places of a layer's output that its weights are fitted at."""
PER_COLUMN = 10
"""Places for each weight of an output channel, as far as there are so many."""
FEWEST = 4096
LARGEST = 2304
"""Most weights of an output channel that are fitted; others stay as they are."""


@dataclass(frozen=True, eq=False)
class Narrowed:
    """A layer that reads fewer channels.

    Args:
        module (nn.Module): A convolution with two axes or a linear layer, no groups.
        out (np.ndarray | None): Output channels that stay, None for all.
        rows (Tensor): ``(out, in, *window)``: the weights to start from, on what stays.
        bias (Tensor | None): ``(out,)``, likewise.
        centred (bool): Whether the means of the outputs are somebody else's: of a bias
            or of a norm. Defaults to True.
    """

    module: nn.Module
    out: np.ndarray | None
    rows: Tensor
    bias: Tensor | None
    centred: bool = True


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a layer was fitted to.

    Args:
        rows (Tensor): ``(out, in, *window)``.
        bias (Tensor): ``(out,)``; with the shift of the outputs' means.
    """

    rows: Tensor
    bias: Tensor


@torch.no_grad()
def fit_in_order(
    model: nn.Module, layers: Mapping[str, Narrowed],
    slices: Iterable[tuple[nn.Module, Mapping[str, Any]]], batches: Sequence[Batch],
    ridge: float, seed: int = 0,
) -> dict[str, Fitted]:
    """Fit the layers of a policy's network in the order in which they run.

    Memory: all images go through the network together, so that of one forward pass, and
    the sampled outputs of all layers. Layers that run more than once in a pass (shared
    heads) are left as they are.

    Args:
        model (nn.Module): The dense model; nothing stays changed.
        layers (Mapping[str, Narrowed]): What to fit.
        slices (Iterable): Modules with the attributes that the policy gives them.
        batches (Sequence[Batch]): Images of one size; those of other sizes than most
            are left out.
        ridge (float): Pulls the weights to where they start, as a share of the mean
            square of the inputs.
        seed (int): Of the places that are sampled. Defaults to 0.

    Returns:
        dict[str, Fitted]: By layer that was fitted.
    """
    images, kind = together(batches), kind_of(model)
    generator = torch.Generator().manual_seed(seed)
    wanted: dict[str, tuple[Tensor, Tensor]] = {}
    calls: Counter[str] = Counter()

    def remember(name: str, module: nn.Module, args: tuple, output: Tensor) -> None:
        calls[name] += 1
        axis = rule_of(module).channel_axis(module, output)
        rows = output.movedim(axis, -1).flatten(0, -2)
        count = min(SAMPLES, max(FEWEST, PER_COLUMN * layers[name].rows[0].numel()))
        places = torch.randint(len(rows), (min(count, len(rows)),), generator=generator)
        out = layers[name].out
        chosen = rows[places.to(rows.device)]
        wanted[name] = places, chosen if out is None else chosen[:, out]

    fitted: dict[str, Fitted] = {}

    def fit(stack: ExitStack, name: str, module: nn.Module, args: tuple) -> None:
        if calls[name] != 1:
            return
        layer, (places, target) = layers[name], wanted.pop(name)
        fitted[name] = least_squares(
            columns_at(module, args[0], places), target, layer, ridge)
        stack.callback(Shadow(module, dict(
            weight=rule_of(module).from_output(module, fitted[name].rows),
            bias=fitted[name].bias)).lift)

    modules = {name: layer.module for name, layer in layers.items()
               if layer.rows[0].numel() <= LARGEST}
    with evaluating(model), in_float(model):
        with hooked(after={m: partial(remember, n) for n, m in modules.items()}):
            kind.raw(model, images)
        with shadowed(slices), ExitStack() as stack, hooked(
                before={m: partial(fit, stack, n) for n, m in modules.items()}):
            kind.raw(model, images)
    return fitted


def together(batches: Sequence[Batch]) -> Batch:
    """The batches whose images have the most frequent size, as one batch."""
    sizes = Counter(batch.inputs.shape[1:] for batch in batches)
    size = sizes.most_common(1)[0][0]
    alike = [batch for batch in batches if batch.inputs.shape[1:] == size]
    samples = alike[0].data_samples
    for batch in alike[1:]:
        samples = samples + batch.data_samples
    return Batch(torch.cat([batch.inputs for batch in alike]), samples)


def columns_at(module: nn.Module, x: Tensor, places: Tensor) -> Tensor:
    """What some places of a layer's output are computed from.

    Args:
        module (nn.Module): A convolution with two axes or a linear layer, no groups.
        x (Tensor): Its input.
        places (Tensor): ``(n,)`` numbers of places, images first, then rows.

    Returns:
        Tensor: ``(n, in * window)``, in the order of the weight's columns.
    """
    rule = rule_of(module)
    geometry = rule.geometry(module, x)
    places = places.to(x.device)
    if 'kernel' not in geometry:
        return x.flatten(0, -2)[places]
    kernel, stride, dilation = (geometry[k] for k in ('kernel', 'stride', 'dilation'))
    vertical, horizontal = geometry['padding']
    x = F.pad(x, (horizontal, horizontal, vertical, vertical))
    height, width = (
        (size - d * (k - 1) - 1) // s + 1
        for size, d, k, s in zip(x.shape[2:], dilation, kernel, stride))
    image = places // (height * width)
    row, column = places % (height * width) // width, places % width
    parts = [x[image, :, row * stride[0] + i * dilation[0],
               column * stride[1] + j * dilation[1]]
             for i in range(kernel[0]) for j in range(kernel[1])]
    return torch.stack(parts, 2).flatten(1)


def least_squares(
    columns: Tensor, target: Tensor, layer: Narrowed, ridge: float
) -> Fitted:
    """``argmin |target - columns W' - b|^2 + ridge |W - W_0|^2`` over ``W`` and ``b``.

    Args:
        columns (Tensor): ``(n, in * window)``.
        target (Tensor): ``(n, out)``: the dense layer's outputs.
        layer (Narrowed): Has ``W_0``.
        ridge (float): As a share of the mean square of the centred columns.
    """
    start = layer.rows.flatten(1)
    left = target - columns @ start.T
    centre, offset = columns.mean(0), left.mean(0)
    if not layer.centred:
        centre, offset = torch.zeros_like(centre), torch.zeros_like(offset)
    columns, left = (columns - centre).double(), (left - offset).double()
    gram = columns.T @ columns
    gram.diagonal().add_(ridge * gram.diagonal().mean().clamp_min(1e-30))
    change = torch.linalg.solve(gram, columns.T @ left).T.to(start)
    return Fitted((start + change).reshape(layer.rows.shape), offset - change @ centre)
