"""Norms: over batch and places, over groups of channels, over all channels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from ..arithmetic.labels import LabelTracer
from ..arithmetic.slices import Kept, size_of
from ..policy import OUT
from .rule import LayerRule, own_vectors, register_rule


class ChannelwiseRule(LayerRule):
    """What passes each channel on by itself, with parameters for it or without."""

    def owns(self, module: nn.Module) -> bool:
        """Whether it has an axis of its own. Defaults to True."""
        return True

    def follow(
        self, module: nn.Module, tracer: LabelTracer, name: str, x: Tensor, out: Tensor
    ) -> None:
        """The output has the labels of the input; an own axis is tied to them."""
        dim = self.channel_axis(module, x)
        labels = tracer.vector(x, dim)
        if labels is None:
            return
        if self.owns(module):
            block = tracer.block(name, OUT, x.shape[dim])
            tracer.tie(block.atoms, labels)
        tracer.emit(out, dim, labels)


class NormRule(ChannelwiseRule):
    """Batch and instance norms."""

    def out_size(self, module: _NormBase) -> int:
        """Channels."""
        return module.num_features

    def owns(self, module: _NormBase) -> bool:
        """If it has a scale or statistics."""
        return module.affine or module.running_mean is not None

    def slice(self, module: _NormBase, out: Kept, into: Kept) -> dict[str, Any]:
        """Scale, shift, statistics and whatever else was added by channel."""
        size = module.num_features
        return dict(own_vectors(module, size, out), num_features=size_of(out, size))

    def scale(self, module: nn.Module) -> Tensor | None:
        """Its weight."""
        return module.weight


class GroupNormRule(NormRule):
    """A norm over groups of channels, which leave as a whole."""

    def out_size(self, module: nn.GroupNorm) -> int:
        """Channels of all groups."""
        return module.num_channels

    def follow(
        self, module: nn.GroupNorm, tracer: LabelTracer, name: str, x: Tensor,
        out: Tensor,
    ) -> None:
        """All channels of one group go together."""
        labels = tracer.vector(x, 1)
        if labels is not None:
            groups = labels.reshape(module.num_groups, -1)
            tracer.tie(groups, groups[:, :1])
        block = tracer.block(name, OUT, module.num_channels)
        if labels is not None:
            tracer.tie(block.atoms, labels)
            tracer.emit(out, 1, labels)

    def slice(self, module: nn.GroupNorm, out: Kept, into: Kept) -> dict[str, Any]:
        """Scale, shift and groups."""
        size = module.num_channels
        kept = size_of(out, size)
        return dict(own_vectors(module, size, out), num_channels=kept,
                    num_groups=kept * module.num_groups // size)


class LayerNormRule(NormRule):
    """A norm over all channels: those that are removed take no part in it."""

    def out_size(self, module: nn.LayerNorm) -> int:
        """Channels, if it is over these alone."""
        return module.normalized_shape[0]

    def channel_axis(self, module: nn.LayerNorm, x: Tensor) -> int:
        """The last one."""
        return x.dim() - 1

    def owns(self, module: nn.LayerNorm) -> bool:
        """If it has a scale."""
        return module.elementwise_affine

    def follow(
        self, module: nn.LayerNorm, tracer: LabelTracer, name: str, x: Tensor,
        out: Tensor,
    ) -> None:
        """Over more axes than the channels', all that it reads stays."""
        if len(module.normalized_shape) != 1:
            tracer.pin(tracer.get(x))
        else:
            super().follow(module, tracer, name, x, out)

    def slice(self, module: nn.LayerNorm, out: Kept, into: Kept) -> dict[str, Any]:
        """Scale and shift."""
        size = module.normalized_shape[0]
        return dict(own_vectors(module, size, out),
                    normalized_shape=(size_of(out, size),))

    def mask(self, module: nn.LayerNorm, gone: np.ndarray) -> Callable[..., Tensor]:
        """A layer norm over the channels that remain."""
        return partial(self._masked, module, gone)

    def _masked(
        self, module: nn.LayerNorm, gone: np.ndarray, x: Tensor, *_: Any
    ) -> Tensor:
        axis = self.channel_axis(module, x)
        rows = x.movedim(axis, -1)
        keep = np.setdiff1d(np.arange(rows.shape[-1]), gone)
        index = torch.as_tensor(keep, device=x.device)
        weight = None if module.weight is None else module.weight[index]
        bias = None if module.bias is None else module.bias[index]
        out = torch.zeros_like(rows)
        out[..., index] = F.layer_norm(
            rows[..., index], (len(keep),), weight, bias, module.eps)
        return out.movedim(-1, axis)


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Batch norms of a model that keep running statistics."""
    return [m for m in model.modules()
            if isinstance(m, _BatchNorm) and m.running_mean is not None]


register_rule(_NormBase, NormRule())
register_rule(nn.GroupNorm, GroupNormRule())
register_rule(nn.LayerNorm, LayerNormRule())
