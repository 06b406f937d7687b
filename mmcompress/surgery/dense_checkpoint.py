"""Loading checkpoints of a dense model into a slim one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..arithmetic.slices import take
from ..errors import CompressionError
from ..layers.multihead import opened_attentions, unpack
from ..layers.rule import sliced
from ..policy import IN, OUT
from .selection import Selection


class DenseCheckpointSlicer:
    """A load hook that slices tensors of the dense model on their way in.

    Args:
        model (nn.Module): The dense model, before it is made small.
        selection (Selection): Of that model.
        channels (Mapping[str, np.ndarray]): Kept channels by unit.
    """

    def __init__(
        self, model: nn.Module, selection: Selection, channels: Mapping[str, np.ndarray]
    ) -> None:
        every = list(model.named_modules(remove_duplicate=False))
        first = {module: name for name, module in reversed(every)}
        kept = selection.kept(channels)
        # A module shared by several parents is in the state dict once per parent.
        self._kept = {name: kept[first[module]] for name, module in every
                      if first[module] in kept}
        self._kept |= {name: sides for name, sides in kept.items() if '@' in name}
        self._shells = {name: _shell(module) for name, module in every
                        if name in self._kept}
        self._opened = opened_attentions(model)
        dense = dict(model.state_dict())
        for name in self._opened:
            unpack(dense, f'{name}.')
        self._shapes = {k: v.shape for k, v in dense.items()}
        self._slim = {
            f'{name}.{key}': value.shape for name, module in every if name in self._kept
            for key, value in _sliced(module, self._kept[name]).items()
            if isinstance(value, Tensor)}

    def __call__(self, state_dict: dict, prefix: str, *_) -> None:
        """Replace dense tensors of ``state_dict`` by their slices.

        Raises:
            CompressionError: A tensor is neither dense nor of this policy.
        """
        self._slice(state_dict, prefix)
        for key, shape in self._slim.items():
            value = state_dict.get(prefix + key)
            if value is not None and value.shape != shape:
                raise CompressionError(
                    f'{key} of the checkpoint has shape {tuple(value.shape)}; this '
                    f'policy takes {tuple(shape)}, or {tuple(self._shapes[key])} of '
                    'the dense model. Load the checkpoint of the dense model or the '
                    'one that belongs to the policy file.')

    def _slice(self, state_dict: dict, prefix: str) -> None:
        for name in self._opened:
            unpack(state_dict, f'{prefix}{name}.')
        for layer, sides in self._kept.items():
            if layer not in self._shells:
                path, axis = layer.rsplit('@', 1)
                self._replace(state_dict, prefix, {path: take(
                    self._dense(state_dict, prefix, path), int(axis), sides['out'])})
                continue
            shell = self._shells[layer]
            own = {name: self._dense(state_dict, prefix, f'{layer}.{name}')
                   for name in shell._parameters.keys() | shell._buffers.keys()}
            filled = _shell(shell)
            filled.__dict__.update(own)
            values = _sliced(filled, sides)
            self._replace(state_dict, prefix, {
                f'{layer}.{name}': values.get(name) for name in own})

    def _dense(self, state_dict: dict, prefix: str, key: str) -> Tensor | None:
        value = state_dict.get(prefix + key)
        dense = value is not None and value.shape == self._shapes.get(key)
        return value if dense else None

    @staticmethod
    def _replace(
        state_dict: dict, prefix: str, values: Mapping[str, Tensor | None]
    ) -> None:
        for key, value in values.items():
            if value is not None:
                state_dict[prefix + key] = value


def _sliced(module: nn.Module, sides: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return sliced(module, sides.get(OUT), sides.get(IN))


def _shell(module: nn.Module) -> nn.Module:
    """A copy of a layer's plain attributes, without its tensors."""
    shell = copy.copy(module)
    shell.__dict__.update(
        _parameters=dict.fromkeys(module._parameters),
        _buffers=dict.fromkeys(module._buffers), _modules={})
    return shell
