"""The parameter-free shortcut of CIFAR ResNets, in a form that can be pruned."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
        self.source = source

    @property
    def source(self) -> tuple[int, ...]:
        """For each output channel, the input channel it copies, or -1."""
        return self._source

    @source.setter
    def source(self, source: Iterable[int]) -> None:
        self._source = tuple(int(i) for i in source)
        if min(self._source, default=0) < -1:
            raise ValueError('source holds input channels, or -1 for a zero channel')
        copied = [i for i in self._source if i >= 0]
        self._has_zeros = len(copied) < len(self._source)
        self._run = _as_run(self._source, copied)
        # A buffer follows the module to its device; it stays out of the state dict.
        old = getattr(self, '_index', None)
        zero = max(copied, default=-1) + 1
        index = torch.tensor(
            [zero if i < 0 else i for i in self._source],
            device=None if old is None else old.device)
        self.register_buffer('_index', index, persistent=False)
        self._gathered = zero

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, H/s, W/s)``."""
        if len(self._source) != self.out_channels:
            raise ValueError(
                f'source names {len(self._source)} channels, '
                f'out_channels is {self.out_channels}')
        # While torch.jit traces, a shape is a tensor and comparing it warns.
        if not torch.jit.is_tracing() and x.shape[1] != self.in_channels:
            raise ValueError(
                f'expected {self.in_channels} input channels, got {x.shape[1]}')
        if self.stride > 1:
            x = x[:, :, ::self.stride, ::self.stride]
        if self._run is not None:
            start, length, before, after = self._run
            # Negative padding would crop as well, but exports less well.
            x = x[:, start:start + length]
            return F.pad(x, (0, 0, 0, 0, before, after))
        # One zero channel behind the last copied one serves all zero channels.
        x = x[:, :self._gathered]
        if self._has_zeros:
            x = F.pad(x, (0, 0, 0, 0, 0, 1))
        return x.index_select(1, self._index)

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f'{self.in_channels}, {self.out_channels}, stride={self.stride}'


def _as_run(
    source: tuple[int, ...], copied: list[int]
) -> tuple[int, int, int, int] | None:
    """Return (start, length, zeros before, zeros after) of one consecutive run."""
    if not copied:
        return 0, 0, len(source), 0
    start, length, before = copied[0], len(copied), source.index(copied[0])
    if source[before:before + length] != tuple(range(start, start + length)):
        return None
    return start, length, before, len(source) - before - length
