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
from ..arithmetic.slices import Kept, size_of, take
from ..policy import OUT
from .rule import LayerRule, register_rule


class ChannelwiseRule(LayerRule):
    """What passes each channel on, with parameters for it or without."""

    def owns(self, module: nn.Module) -> bool:
        """Whether it has an axis of its own. Defaults to True."""
        return True

    def follow(
        self, module: nn.Module, tracer: LabelTracer, name: str, x: Tensor, out: Tensor
    ) -> None:
        """The output has the labels of the input; an own axis is tied to them."""
        self.follow_along(self.channel_axis(module, x), module, tracer, name, x, out)

    def follow_along(
        self, dim: int, module: nn.Module, tracer: LabelTracer, name: str, x: Tensor,
        out: Tensor,
    ) -> None:
        """As :meth:`follow`, with the channels along axis ``dim``."""
        labels = tracer.vector(x, dim)
        if labels is not None:
            if self.owns(module):
                tracer.tie(tracer.block(name, OUT, x.shape[dim]).atoms, labels)
            tracer.emit(out, dim, labels)

    def slice(self, module: nn.Module, out: Kept, into: Kept) -> dict[str, Any]:
        """Entries of every parameter and buffer that has one by channel."""
        size = self.out_size(module)
        own = {name: getattr(module, name)
               for name in (*module._parameters, *module._buffers)}
        values = {name: take(value, 0, out) for name, value in own.items()
                  if value is not None and value.shape == (size,)}
        return {**values, self.outputs: size_of(out, size)}


class NormRule(ChannelwiseRule):
    """Batch and instance norms."""

    outputs = 'num_features'

    def owns(self, module: _NormBase) -> bool:
        return module.affine or module.running_mean is not None

    def scale(self, module: nn.Module) -> Tensor | None:
        return module.weight


class GroupNormRule(NormRule):
    """A norm over groups of channels, which leave as a whole."""

    outputs = 'num_channels'

    def owns(self, module: nn.GroupNorm) -> bool:
        return True

    def follow(
        self, module: nn.GroupNorm, tracer: LabelTracer, name: str, x: Tensor,
        out: Tensor,
    ) -> None:
        tracer.block(name, OUT, module.num_channels)
        labels = tracer.vector(x, 1)
        if labels is not None:
            groups = labels.reshape(module.num_groups, -1)
            tracer.tie(groups, groups[:, :1])
        super().follow(module, tracer, name, x, out)

    def slice(self, module: nn.GroupNorm, out: Kept, into: Kept) -> dict[str, Any]:
        values = super().slice(module, out, into)
        groups = values['num_channels'] * module.num_groups // module.num_channels
        return dict(values, num_groups=groups)


class LayerNormRule(NormRule):
    """A norm over all channels: those that are removed take no part in it."""

    outputs = 'normalized_shape'

    def out_size(self, module: nn.LayerNorm) -> int:
        return module.normalized_shape[0]

    def channel_axis(self, module: nn.LayerNorm, x: Tensor) -> int:
        return x.dim() - 1

    def owns(self, module: nn.LayerNorm) -> bool:
        return module.elementwise_affine

    def follow(
        self, module: nn.LayerNorm, tracer: LabelTracer, name: str, x: Tensor,
        out: Tensor,
    ) -> None:
        if len(module.normalized_shape) != 1:  # over places as well
            tracer.pin(tracer.get(x))
        else:
            super().follow(module, tracer, name, x, out)

    def slice(self, module: nn.LayerNorm, out: Kept, into: Kept) -> dict[str, Any]:
        values = super().slice(module, out, into)
        return dict(values, normalized_shape=(values['normalized_shape'],))

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
