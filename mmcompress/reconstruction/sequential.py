"""Repair of one network, layer after layer, on what its layers really read.

The closed form of :mod:`.compensation` believes that what stays of a layer's input is
what the dense network has there. In a compressed network it is not: earlier layers were
repaired and still err. Here the compressed network runs over all images at once, and
just before a layer runs, its weights are fitted to the dense layer's outputs from its
actual inputs (the asymmetric form of He et al., ICCV 2017, and of OBC, NeurIPS 2022).

Where an output is added to a shortcut, with nothing but a norm between, the layer is
fitted to the dense sum less the compressed shortcut: the block also mends what the
shortcut lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.images import Batch
from ..kinds import kind_of
from ..layers.rule import rule_of
from ..surgery.hooks import hooked
from ..surgery.modes import evaluating, in_float
from ..surgery.shadow import Shadow, shadowed
from .columns import LARGEST, columns_at, drawn, has_columns, rows_of
from .flow import Trail, Trails, affine_of, named_norms

SAMPLES = 2 ** 15
"""Most places of a layer's output that its weights are fitted at."""
FEWEST = 2 ** 14
"""Places it is fitted at if there are so many."""
PER_COLUMN = 40
"""Places for each weight of an output channel. With 10, ResNet-56 at half its MACs is
1.4 points worse (docs/reconstruction.md)."""
SCARCE = 4
"""Places for each column below which a layer is left as it is."""
SMALLEST_SCALE = 0.1
"""Scales of norms are taken to be no smaller, as a share of their mean size."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of the compressed network, before it is fitted.

    Args:
        module (nn.Module): One that :func:`has_columns`.
        out (np.ndarray | None): Output channels that stay, None for all.
        rows (Tensor): ``(out, in per group, *window)``: the weights to start from, on
            what stays.
        bias (Tensor | None): ``(out,)``, likewise.
        centred (bool): Whether the means of the outputs can be mended: by a bias or
            the norm behind. Defaults to True.
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
        rows (Tensor): ``(out, in per group, *window)``.
        bias (Tensor): ``(out,)``; with the shift of the outputs' means.
    """

    rows: Tensor
    bias: Tensor


@dataclass(eq=False)
class _Target:
    """Where a layer is fitted, and to what."""

    places: Tensor
    rows: Tensor
    total: Tensor | None = None  # of the dense sum, (places, out)
    columns: Tensor | None = None
    read: Tensor | None = None


@dataclass(eq=False)
class _Fit:
    """One network being fitted."""

    model: nn.Module
    layers: Mapping[str, Layer]
    ridge: float
    generator: torch.Generator
    residual: bool
    norms: Mapping[str, nn.Module] = field(init=False)
    targets: dict[str, _Target] = field(default_factory=dict)
    fitted: dict[str, Fitted] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.norms = named_norms(self.model)
        self.modules = {name: layer.module for name, layer in self.layers.items()}

    # -- the dense pass ------------------------------------------------------
    def remember(self, images: Batch) -> None:
        """Keep the dense outputs at places drawn at random."""
        trails = Trails(self.modules, self.norms, self._remember_sum)
        with hooked(after={m: partial(self._remember, n)
                           for n, m in self.modules.items()}), trails.following():
            kind_of(self.model).raw(self.model, images)

    def _remember(
        self, name: str, module: nn.Module, args: tuple, output: Tensor
    ) -> None:
        self.calls[name] += 1
        layer, rows = self.layers[name], rows_of(module, output)
        count = min(SAMPLES, max(FEWEST, PER_COLUMN * layer.rows[0].numel()))
        places = drawn(len(rows), count, self.generator)
        self.targets[name] = _Target(places, _chosen(rows, places, layer.out))

    def _remember_sum(
        self, trail: Trail, own: Tensor, other: Tensor, add: Callable
    ) -> Tensor:
        total = add(own, other)
        layer, target = self.layers[trail.layer], self.targets[trail.layer]
        if self.residual:
            target.total = _chosen(
                rows_of(layer.module, total), target.places, layer.out)
        return total

    # -- the compressed pass -------------------------------------------------
    def run(self, images: Batch) -> None:
        """Fit every layer just before it runs, or where its output is added."""
        trails = Trails(self.modules, self.norms, self._fit_sum)
        with self.stack, hooked(before={
                m: partial(self._reached, n) for n, m in self.modules.items()}), \
                trails.following():
            kind_of(self.model).raw(self.model, images)

    def _reached(self, name: str, module: nn.Module, args: tuple) -> None:
        target = self.targets.get(name)
        if target is None or self.calls[name] != 1:
            return
        columns = columns_at(module, args[0], target.places)
        if columns.shape[1] < SCARCE * columns.shape[2]:
            return
        if target.total is None:
            self._solve(name, columns, target.rows)
        else:
            target.columns, target.read = columns, args[0]

    def _solve(self, name: str, columns: Tensor, rows: Tensor) -> None:
        layer = self.layers[name]
        self.fitted[name] = found = least_squares(columns, rows, layer, self.ridge)
        del self.targets[name]
        self.stack.callback(Shadow(layer.module, dict(
            weight=rule_of(layer.module).from_output(layer.module, found.rows),
            bias=found.bias)).lift)

    def _fit_sum(
        self, trail: Trail, own: Tensor, other: Tensor, add: Callable
    ) -> Tensor:
        """Fit the layer to the dense sum less the shortcut, and run it again."""
        target = self.targets.get(trail.layer)
        if target is None or target.columns is None:
            return add(own, other)
        module = self.layers[trail.layer].module
        wanted = target.total - _chosen(rows_of(module, other), target.places, None)
        norm = self.norms.get(trail.norm)
        if norm is not None:
            scale, shift = affine_of(norm, wanted.shape[1], own)
            least = SMALLEST_SCALE * scale.abs().mean()
            scale = torch.where(scale < 0, -1.0, 1.0) * scale.abs().clamp_min(least)
            # The dense output, changed by what the shortcut lacks.
            wanted = target.rows + (wanted - shift - target.rows * scale) / scale
        self._solve(trail.layer, target.columns, wanted)
        again = module.forward(target.read)
        return add(again if norm is None else norm.forward(again), other)


@torch.no_grad()
def fit_in_order(
    model: nn.Module, layers: Mapping[str, Layer],
    slices: Iterable[tuple[nn.Module, Mapping[str, Any]]], batches: Sequence[Batch],
    ridge: float, seed: int = 0, residual: bool = True,
) -> dict[str, Fitted]:
    """Fit the layers of a policy's network in the order in which they run.

    Memory: all images go through the network together, so that of one forward pass, and
    the sampled outputs of all layers. Layers that run more than once in a pass (shared
    heads) are left as they are.

    Args:
        model (nn.Module): The dense model; nothing stays changed.
        layers (Mapping[str, Layer]): What to fit, by dotted path.
        slices (Iterable): Modules with the attributes that the policy gives them; with
            the weights and biases of ``layers``.
        batches (Sequence[Batch]): Images of one size; those of other sizes than most
            are left out.
        ridge (float): Pulls the weights to where they start, as a share of the mean
            square of the inputs.
        seed (int): Of the places that are sampled. Defaults to 0.
        residual (bool): Whether outputs that are added to a shortcut make up for what
            the shortcut lost. Defaults to True.

    Returns:
        dict[str, Fitted]: By layer that was fitted.
    """
    wanted = {name: layer for name, layer in layers.items()
              if has_columns(layer.module) and layer.rows[0].numel() <= LARGEST}
    generator = torch.Generator().manual_seed(seed)
    fit = _Fit(model, wanted, ridge, generator, residual)
    images = together(batches)
    with evaluating(model), in_float(model):
        fit.remember(images)
        with shadowed(slices):
            fit.run(images)
    return fit.fitted


def together(batches: Sequence[Batch]) -> Batch:
    """The batches whose images have the most frequent size, as one batch."""
    sizes = Counter(batch.inputs.shape[1:] for batch in batches)
    size = sizes.most_common(1)[0][0]
    alike = [batch for batch in batches if batch.inputs.shape[1:] == size]
    samples = alike[0].data_samples
    for batch in alike[1:]:
        samples = samples + batch.data_samples
    return Batch(torch.cat([batch.inputs for batch in alike]), samples)


def least_squares(
    columns: Tensor, target: Tensor, layer: Layer, ridge: float
) -> Fitted:
    """``argmin |target - columns W' - b|^2 + ridge |W - W_0|^2`` over ``W`` and ``b``.

    Args:
        columns (Tensor): ``(groups, n, in per group * window)``.
        target (Tensor): ``(n, out)``: the dense layer's outputs.
        layer (Layer): Has ``W_0``.
        ridge (float): As a share of the mean square of the centred columns.
    """
    groups = len(columns)
    start = layer.rows.flatten(1).reshape(groups, -1, columns.shape[2])
    # (groups, n, out per group)
    left = target.reshape(len(target), groups, -1).movedim(1, 0) - columns @ start.mT
    centre, offset = columns.mean(1, keepdim=True), left.mean(1, keepdim=True)
    if not layer.centred:
        centre, offset = torch.zeros_like(centre), torch.zeros_like(offset)
    columns, left = columns - centre, left - offset
    gram, cross = (columns.mT @ columns).double(), (columns.mT @ left).double()
    diagonal = gram.diagonal(dim1=1, dim2=2)
    diagonal.add_(ridge * diagonal.mean(1, keepdim=True).clamp_min(1e-30))
    change = torch.linalg.solve(gram, cross).mT.to(start)
    return Fitted((start + change).reshape(layer.rows.shape),
                  (offset.mT - change @ centre.mT).flatten())


def _chosen(rows: Tensor, places: Tensor, out: np.ndarray | None) -> Tensor:
    chosen = rows[places.to(rows.device)]
    return chosen if out is None else chosen[:, out]
