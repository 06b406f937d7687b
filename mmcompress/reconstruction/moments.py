"""Means and covariances of what layers read, from unlabelled images.

One statistic of the dense network serves the order of channels, the price of widths
and bits and the repair of weights. In the **patch form** it is taken over all columns
that a layer multiplies: channels times positions of its window. Where these are too
many or the samples too few it is in the **pixel form**, over channels alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, prod

import torch
from torch import Tensor, nn

from ..data.images import Batch
from ..errors import DataError
from ..kinds import kind_of
from ..layers.rule import LayerRule, is_layer, rule_of
from ..surgery.hooks import hooked
from ..surgery.modes import evaluating, in_float
from .columns import (
    LARGEST,
    PER_COLUMN,
    columns_at,
    drawn,
    has_columns,
    map_size,
)
from .sums import Sums

PIXELS = 2 ** 14
"""Least places of a layer that are looked at, if it has so many."""


@dataclass(frozen=True, eq=False)
class Moments:
    """What a layer reads.

    The K columns are the C input channels in the pixel form, and in the patch form
    ``C * window``, channel by channel.

    Args:
        mean (Tensor): ``(K,)`` float64.
        covariance (Tensor): ``(K, K)`` float64.
        coverage (Tensor): ``(*window,)`` float64: how often each position of the
            window lies inside the map, not in the padding; a scalar 1 for a layer
            without a window. The columns of the patch form hold the zeros of the
            padding, so there it is 1 throughout.
        window (int): Columns of one channel; 1 in the pixel form. Defaults to 1.
    """

    mean: Tensor
    covariance: Tensor
    coverage: Tensor
    window: int = 1

    def columns(self, channels: Tensor) -> Tensor:
        """Numbers of the columns of some channels, channel by channel."""
        inside = torch.arange(self.window, device=channels.device)
        return (channels[..., None] * self.window + inside).flatten(-2)

    def reordered(self, order: Tensor) -> Moments:
        """The same with the channel ``order[i]`` at place i."""
        place = self.columns(order.to(self.mean.device))
        return replace(self, mean=self.mean[place],
                       covariance=self.covariance[place][:, place])

    def about_zero(self) -> Moments:
        """The same with nothing taken off, for layers whose means nobody corrects."""
        square = self.covariance + self.mean[:, None] * self.mean
        return replace(self, mean=torch.zeros_like(self.mean), covariance=square)

    def pixels(self) -> Moments:
        """The pixel form: that of the position in the middle of the window."""
        middle = torch.arange(
            self.window // 2, len(self.mean), self.window, device=self.mean.device)
        return replace(self, mean=self.mean[middle], window=1,
                       covariance=self.covariance[middle][:, middle])


class _Watched:
    """What one layer reads, over all its calls.

    Args:
        module (nn.Module): The layer.
        x (Tensor): What it reads at the first call.
        batches (int): How many there will be.
        calls (int): Calls in each of them.
    """

    def __init__(self, module: nn.Module, x: Tensor, batches: int, calls: int) -> None:
        rule, weight = rule_of(module), rule_of(module).weight(module)
        channels = rule.in_size(module)
        self.window = weight[0].numel() // channels if has_columns(module) else 1
        size = channels * self.window
        if self.window > 1 and (size > LARGEST or PER_COLUMN * size > batches * (
                len(x) * prod(map_size(rule.geometry(module, x))))):
            self.window, size = 1, channels
        # The small levels of a pyramid have fewer places than their share.
        shares = batches * (calls / 2 if calls > 1 else 1)
        self.places = ceil(max(PIXELS, PER_COLUMN * size) / shares)
        self.sums = Sums(x.new_zeros(0, size))
        self.calls = 0
        self.inside: Tensor | float = 0.0

    def add(self, module: nn.Module, x: Tensor, generator: torch.Generator) -> None:
        rule = rule_of(module)
        x = x.detach()
        geometry = rule.geometry(module, x)
        self.inside = self.inside + coverage_of(geometry)
        self.calls += 1
        if self.window > 1:
            size = len(x) * prod(map_size(geometry))
            rows = columns_at(module, x, drawn(size, self.places, generator))[0]
        else:
            rows = x.movedim(rule.channel_axis(module, x), -1).flatten(0, -2)
            rows = rows[drawn(len(rows), self.places, generator).to(rows.device)]
        self.sums.add(rows)

    def moments(self) -> Moments:
        coverage = torch.as_tensor(self.inside) / self.calls
        sums = self.sums
        found = Moments(sums.mean, sums.covariance, coverage, self.window)
        if self.window == 1:
            return found
        if sums.count < PER_COLUMN * len(sums.mean):
            return found.pixels()
        return replace(found, coverage=torch.ones_like(coverage))


def readers(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Module]:
    """The layers among some modules whose input channels can stand in for another.

    Args:
        model (nn.Module): The model.
        names (Iterable[str]): Dotted paths of modules.

    Returns:
        dict[str, nn.Module]: Layers with MACs that mix all their input channels: those
        without groups, padded with zeros if at all, and with a weight of their own.
    """
    modules = dict(model.named_modules())
    return {name: modules[name] for name in names
            if name in modules and is_layer(modules[name])
            and _can_be_read(rule_of(modules[name]), modules[name])}


def _can_be_read(rule: LayerRule, module: nn.Module) -> bool:
    return (rule.groups(module) == 1 and rule.is_regular(module)
            and rule.weight(module) is not None)


@torch.no_grad()
def measure(
    model: nn.Module, layers: Mapping[str, nn.Module], batches: Sequence[Batch],
    seed: int = 0,
) -> dict[str, Moments]:
    """Run images through the model and watch what layers read.

    Memory: 16 bytes for every pair of columns of every layer. Of each layer at least
    :data:`PIXELS` places are looked at, and ten for every column, as far as it has so
    many.

    Args:
        model (nn.Module): The dense model; it computes in float and evaluation mode.
        layers (Mapping[str, nn.Module]): Of :func:`readers`.
        batches (Sequence[Batch]): Unlabelled images.
        seed (int): Of the places that are drawn. Defaults to 0.

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
    watched: dict[str, _Watched] = {}
    calls = _calls(model, layers, batches[0])

    def watch(name: str, module: nn.Module, args: tuple) -> None:
        x = args[0]
        if not x.numel():
            return
        if name not in watched:
            watched[name] = _Watched(module, x, len(batches), max(1, calls[name]))
        watched[name].add(module, x, generator)

    hooks = {module: partial(watch, name) for name, module in layers.items()}
    kind = kind_of(model)
    with evaluating(model), in_float(model), hooked(before=hooks):
        for batch in batches:
            kind.raw(model, batch)
    return {name: found.moments() for name, found in watched.items()}


def _calls(
    model: nn.Module, layers: Mapping[str, nn.Module], batch: Batch
) -> Counter[str]:
    """How often a forward pass calls each layer; heads of several levels do so more."""
    found: Counter[str] = Counter()

    def called(name: str, module: nn.Module, args: tuple) -> None:
        found[name] += 1

    one = Batch(batch.inputs[:1], batch.data_samples[:1])
    hooks = {module: partial(called, name) for name, module in layers.items()}
    with evaluating(model), in_float(model), hooked(before=hooks):
        kind_of(model).raw(model, one)
    return found


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
    sides = []
    for axis, places in enumerate(map_size(geometry)):
        read = (torch.arange(places)[:, None] * geometry['stride'][axis]
                + torch.arange(kernel[axis]) * geometry['dilation'][axis]
                - padding[axis])
        inside = (read >= 0) & (read < geometry['size'][axis])
        sides.append(inside.double().mean(0))
    return sides[0][:, None] * sides[1]
