"""Computing in float64, where the order of a sum does not show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from .modes import evaluating

T = TypeVar('T')


def precisely(model: nn.Module, measure: Callable[[], T]) -> T | None:
    """What ``measure`` finds in float64, where the order of a sum does not show.

    Returns:
        T | None: None if the model insists on another precision.
    """
    try:
        with in_float64(model):
            return measure()
    except RuntimeError as error:
        print_log(f'The model does not run in float64: {error}', 'current', level=10)
        return None


@contextmanager
def in_float64(model: nn.Module) -> Iterator[None]:
    """Let ``model`` compute in float64; its own tensors come back afterwards."""
    tensors = [t for t in (*model.parameters(), *model.buffers())
               if t.is_floating_point()]
    saved = [t.data for t in tensors]
    default = torch.get_default_dtype()
    try:
        for tensor in tensors:
            tensor.data = tensor.data.double()
        torch.set_default_dtype(torch.float64)
        with _Doubled():
            yield
    finally:
        torch.set_default_dtype(default)
        for tensor, data in zip(tensors, saved):
            tensor.data = data
        # LeViT and its like compute a tensor from parameters when they enter eval mode.
        with evaluating(model):
            pass


class _Doubled(TorchDispatchMode):
    """Makes every float32 result float64.

    Positional encodings and the like ask for float32 by name; a layer that reads
    them would then be given two precisions.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        return tree_map(_double, out)


def _double(x: object) -> object:
    single = isinstance(x, Tensor) and x.dtype == torch.float32
    return x.double() if single else x
