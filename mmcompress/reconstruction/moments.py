"""Means and covariances of what layers read, from unlabelled images.

One statistic of the dense network serves the order of channels, the price of widths
and the repair of weights. It is taken over pixels: one ``C x C`` matrix a layer,
whatever the window of the layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.images import Batch
from ..errors import DataError
from ..kinds import kind_of
from ..layers.rule import LayerRule, is_layer, rule_of
from ..surgery.hooks import hooked
from ..surgery.modes import evaluating, in_float

PIXELS = 2 ** 13
"""Pixels of a batch that are looked at in one call of a layer, drawn at random."""


@dataclass(frozen=True, eq=False)
class Moments:
    """What a layer reads.

    Args:
        mean (Tensor): ``(C,)`` float64, of the input channels.
        covariance (Tensor): ``(C, C)`` float64.
        coverage (Tensor): ``(*window,)`` float64: how often each position of the
            window lies inside the map, not in the padding; a scalar 1 for a layer
            without a window.
    """

    mean: Tensor
    covariance: Tensor
    coverage: Tensor


class _Sums:
    """Sums over all calls of a layer."""

    def __init__(self, channels: int, device: torch.device) -> None:
        options = dict(dtype=torch.float64, device=device)
        self.first = torch.zeros(channels, **options)
        self.second = torch.zeros(channels, channels, **options)
        self.count = 0
        self.inside: Tensor | float = 0.0
        self.calls = 0

    def add(
        self, x: Tensor, axis: int, coverage: Tensor, generator: torch.Generator
    ) -> None:
        rows = x.detach().movedim(axis, -1).flatten(0, -2)
        if len(rows) > PIXELS:
            drawn = torch.randint(len(rows), (PIXELS,), generator=generator)
            rows = rows[drawn.to(rows.device)]
        rows = rows.double()
        self.first += rows.sum(0)
        self.second += rows.T @ rows
        self.count += len(rows)
        self.inside = self.inside + coverage
        self.calls += 1

    def moments(self) -> Moments:
        mean = self.first / self.count
        covariance = self.second / self.count - mean[:, None] * mean
        return Moments(mean, covariance, torch.as_tensor(self.inside) / self.calls)


def readers(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Module]:
    """The layers among some modules whose input channels can stand in for another.

    Args:
        model (nn.Module): The model.
        names (Iterable[str]): Dotted paths of modules.

    Returns:
        dict[str, nn.Module]: Layers with MACs that mix all their input channels: those
        without groups and with a weight of their own.
    """
    modules = dict(model.named_modules())
    return {name: modules[name] for name in names
            if name in modules and is_layer(modules[name])
            and rule_of(modules[name]).groups(modules[name]) == 1
            and rule_of(modules[name]).weight(modules[name]) is not None}


@torch.no_grad()
def measure(
    model: nn.Module, layers: Mapping[str, nn.Module], batches: Sequence[Batch],
    seed: int = 0,
) -> dict[str, Moments]:
    """Run images through the model and watch what layers read.

    Memory: 16 bytes for every pair of input channels of every layer.

    Args:
        model (nn.Module): The dense model; it computes in float and evaluation mode.
        layers (Mapping[str, nn.Module]): Of :func:`readers`.
        batches (Sequence[Batch]): Unlabelled images.
        seed (int): Of the pixels that are drawn. Defaults to 0.

    Returns:
        dict[str, Moments]: By layer that the images reach.

    Raises:
        DataError: No images.
    """
    if not batches:
        raise DataError(
            'Reconstruction needs images without labels; set calibration_images of the '
            'evaluator above 0, or give prepare() calibration=....')
    generator = torch.Generator().manual_seed(seed)
    sums: dict[str, _Sums] = {}

    def watch(name: str, rule: LayerRule, module: nn.Module, args: tuple) -> None:
        x = args[0]
        if not x.numel():
            return
        if name not in sums:
            sums[name] = _Sums(rule.in_size(module), x.device)
        sums[name].add(x, rule.channel_axis(module, x),
                       coverage_of(rule.geometry(module, x)), generator)

    hooks = {module: partial(watch, name, rule_of(module))
             for name, module in layers.items()}
    kind = kind_of(model)
    with evaluating(model), in_float(model), hooked(before=hooks):
        for batch in batches:
            kind.raw(model, batch)
    return {name: found.moments() for name, found in sums.items()}


def coverage_of(geometry: Mapping[str, tuple[int, ...]]) -> Tensor:
    """Share of a layer's outputs for which each window position is inside the map.

    Args:
        geometry (Mapping): Of :meth:`LayerRule.geometry`.

    Returns:
        Tensor: float64 of the window's shape; 1 where nothing is padded or the window
        has not two axes.
    """
    kernel, padding = geometry.get('kernel', ()), geometry.get('padding', ())
    if len(kernel) != 2 or not any(padding):
        return torch.ones(kernel, dtype=torch.float64)
    ones = torch.ones(1, 1, *geometry['size'], dtype=torch.float64)
    columns = F.unfold(ones, kernel, geometry['dilation'], padding, geometry['stride'])
    return columns.mean((0, 2)).reshape(kernel)
