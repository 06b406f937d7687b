"""What becomes of the outputs of layers: norms, and sums with a shortcut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from ..data.images import Batch
from ..kinds import kind_of
from ..layers.norm import batch_norms
from ..surgery.hooks import hooked
from ..surgery.modes import evaluating, in_float

ADDITIONS = frozenset({
    torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__iadd__,
    Tensor.__radd__})


@dataclass(frozen=True)
class Trail:
    """Where a tensor comes from.

    Args:
        layer (str): The layer that made it.
        norm (str): The batch norm that it has been through since; '' for none.
    """

    layer: str
    norm: str = ''


Adding = Callable[[Trail, Tensor, Tensor, Callable[[Tensor, Tensor], Tensor]], Tensor]
"""Told the trail of a summand, the summand, the other one and how to add; gives the
sum."""


class Trails(TorchFunctionMode):
    """Follows the outputs of some layers to the norms behind them and to sums.

    Args:
        layers (Mapping[str, nn.Module]): The layers.
        norms (Mapping[str, nn.Module]): Batch norms of the model.
        adding (Adding | None): Called where an output meets a shortcut, with nothing
            but a norm between. Of two summands with trails it is the later one.
    """

    def __init__(
        self, layers: Mapping[str, nn.Module], norms: Mapping[str, nn.Module],
        adding: Adding | None = None,
    ) -> None:
        super().__init__()
        self.layers, self.norms, self.adding = layers, norms, adding
        self.behind: dict[str, tuple[str, ...]] = {}
        self._trails: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self._order: dict[str, int] = {}

    @contextmanager
    def following(self) -> Iterator[Trails]:
        """Follow what runs within the block."""
        names = {module: name for name, module in self.layers.items()}
        norms = {module: name for name, module in self.norms.items()}

        def made(module: nn.Module, args: tuple, output: Tensor) -> None:
            self._order[names[module]] = len(self._order)
            self._trails[output] = Trail(names[module])

        def passed(module: nn.Module, args: tuple, output: Tensor) -> None:
            trail = self._trails.get(args[0])
            if trail is not None and not trail.norm:
                name, known = norms[module], self.behind.get(trail.layer, ())
                self.behind[trail.layer] = tuple(dict.fromkeys((*known, name)))
                self._trails[output] = Trail(trail.layer, name)

        with hooked(after={**dict.fromkeys(names, made), **dict.fromkeys(norms, passed)}
                    ), self:
            yield self

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Step in where two tensors of one shape are added."""
        kwargs = kwargs or {}
        if self.adding is None or func not in ADDITIONS or kwargs or len(args) != 2 \
                or not all(isinstance(x, Tensor) for x in args) \
                or args[0].shape != args[1].shape:
            return func(*args, **kwargs)
        found = [(self._order[trail.layer], i) for i, x in enumerate(args)
                 if (trail := self._trails.get(x)) is not None]
        if not found:
            return func(*args)
        own = max(found)[1]

        def add(summand: Tensor, other: Tensor) -> Tensor:
            return func(other, summand) if own else func(summand, other)

        trail = self._trails.pop(args[own])  # the sum may be the same tensor
        return self.adding(trail, args[own], args[1 - own], add)


def named_norms(model: nn.Module) -> dict[str, nn.Module]:
    """The batch norms of a model by dotted path."""
    wanted = set(map(id, batch_norms(model)))
    return {name: module for name, module in model.named_modules()
            if id(module) in wanted}


def affine_of(norm: nn.Module, channels: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """What a batch norm with stored statistics multiplies by and adds, ``(C,)`` each.

    Args:
        norm (nn.Module): In evaluation mode.
        channels (int): C.
        like (Tensor): A tensor that it takes; for its axes, type and device.
    """
    shape = (2, channels, *[1] * (like.dim() - 2))
    ends = torch.arange(2.0, device=like.device, dtype=like.dtype).reshape(
        2, *[1] * (len(shape) - 1)).expand(shape)
    low, high = norm.forward(ends).flatten(1)
    return high - low, low


@torch.no_grad()
def norms_behind(
    model: nn.Module, layers: Mapping[str, nn.Module], batch: Batch
) -> dict[str, tuple[str, ...]]:
    """The batch norms that read the outputs of layers directly, by layer.

    A shared head may have several for one layer, one for every level.

    Args:
        model (nn.Module): The dense model.
        layers (Mapping[str, nn.Module]): Layers by dotted path.
        batch (Batch): Images; one is looked at.
    """
    one = Batch(batch.inputs[:1], batch.data_samples[:1])
    trails = Trails(layers, named_norms(model))
    with evaluating(model), in_float(model), trails.following():
        kind_of(model).raw(model, one)
    return trails.behind
