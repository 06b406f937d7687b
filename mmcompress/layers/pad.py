"""The parameter-free shortcut of CIFAR ResNets, in a form that can be pruned."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..arithmetic.labels import LabelTracer
from ..arithmetic.slices import Kept, size_of
from ..policy import IN, OUT
from .rule import LayerRule, register_rule


class ChannelPad(nn.Module):
    """Subsample spatially, then copy input channels between zero channels.

    A pruned network keeps some channels on either side of the shortcut.
    Assigning ``in_channels``, ``out_channels`` and ``source`` is all that pruning
    has to do: any ``source`` is valid, none of it is in the state dict.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Every ``stride``-th row and column is kept. Defaults to 1.
        source (Iterable[int], optional): For each output channel the index of
            the input channel that it copies, or -1 for a zero channel. Defaults
            to the input channels in order, with half of the missing channels as
            zeros before them and the other half after.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        source: Iterable[int] | None = None,
    ) -> None:
        super().__init__()
        if source is None:
            missing = out_channels - in_channels
            if missing < 0:
                raise ValueError(
                    f'cannot pad {in_channels} channels to {out_channels}; '
                    'name the channels to keep with source=')
            before = missing // 2
            source = ([-1] * before + list(range(in_channels))
                      + [-1] * (missing - before))
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride
        self.source = tuple(int(i) for i in source)
        if min(self.source, default=0) < -1:
            raise ValueError('source holds input channels, or -1 for a zero channel')

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, H/s, W/s)``."""
        # While torch.jit traces, a shape is a tensor and comparing it warns.
        if not torch.jit.is_tracing() and x.shape[1] != self.in_channels:
            raise ValueError(
                f'expected {self.in_channels} input channels, got {x.shape[1]}')
        if self.stride > 1:
            x = x[:, :, ::self.stride, ::self.stride]
        run = _as_run(self.source)
        if run is not None:
            start, length, before, after = run
            # Negative padding would crop as well, but exports less well.
            x = x[:, start:start + length]
            return F.pad(x, (0, 0, 0, 0, before, after))
        # One zero channel behind the inputs serves all zero channels.
        x = F.pad(x, (0, 0, 0, 0, 0, 1))
        zero = x.shape[1] - 1
        index = torch.tensor(
            [zero if i < 0 else i for i in self.source], device=x.device)
        return x.index_select(1, index)

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f'{self.in_channels}, {self.out_channels}, stride={self.stride}'


@lru_cache(maxsize=4096)
def _as_run(source: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """Return (start, length, zeros before, zeros after) of one consecutive run."""
    copied = [i for i in source if i >= 0]
    if not copied:
        return 0, 0, len(source), 0
    start, length, before = copied[0], len(copied), source.index(copied[0])
    if source[before:before + length] != tuple(range(start, start + length)):
        return None
    return start, length, before, len(source) - before - length


class PadRule(LayerRule):
    """Each output channel is an input channel, or zero."""

    def follow(
        self, module: ChannelPad, tracer: LabelTracer, name: str, x: Tensor, out: Tensor
    ) -> None:
        into = tracer.consume(name, IN, x, 1)
        made = tracer.block(name, OUT, module.out_channels)
        source = torch.tensor(module.source)
        copied = source >= 0
        tracer.tie(made.atoms[copied], into.atoms[source[copied]])
        tracer.emit(out, 1, made.atoms)

    def slice(self, module: ChannelPad, out: Kept, into: Kept) -> dict[str, Any]:
        """Where each kept input channel moved to; removed ones read as zero."""
        source = np.asarray(module.source)[slice(None) if out is None else out]
        if into is not None:
            moved = np.full(module.in_channels + 1, -1)
            moved[into] = np.arange(len(into))
            source = moved[source]
        return dict(
            source=tuple(source.tolist()),
            in_channels=size_of(into, module.in_channels), out_channels=len(source))


register_rule(ChannelPad, PadRule())
