"""Other attributes for a module: in front of its own for a while, or for good."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class Shadow:
    """Values that stand in front of a module's own until they are lifted.

    An instance attribute is found before a registered parameter or buffer, so the
    layer computes with the small tensor while ``state_dict``, ``parameters`` and
    optimisers keep seeing the dense one.

    Args:
        module (nn.Module): The layer.
        values (Mapping[str, Any]): Attribute name to value.
    """

    def __init__(self, module: nn.Module, values: Mapping[str, Any]) -> None:
        self._module = module
        own = module.__dict__
        self._saved = {name: own[name] for name in values if name in own}
        self._added = [name for name in values if name not in own]
        own.update(values)

    def lift(self) -> None:
        """Bring the module's own attributes back, exactly."""
        own = self._module.__dict__
        own.update(self._saved)
        for name in self._added:
            own.pop(name, None)


@contextmanager
def shadowed(pairs: Iterable[tuple[nn.Module, Mapping[str, Any]]]) -> Iterator[None]:
    """Put values in front of those of some modules for a while.

    Args:
        pairs (Iterable): Modules, each with its values, see :class:`Shadow`; each pair
            is asked for when the ones before it are in force.
    """
    shadows = []
    try:
        for module, values in pairs:
            shadows.append(Shadow(module, values))
        yield
    finally:
        for shadow in reversed(shadows):
            shadow.lift()


def overwrite(module: nn.Module, values: Mapping[str, Any]) -> None:
    """Make ``values`` the module's own: parameters and buffers shrink for good."""
    for name, value in values.items():
        if name in module._parameters:
            old = module._parameters[name]
            if old is not None:
                data = value.detach().clone(memory_format=torch.contiguous_format)
                module._parameters[name] = nn.Parameter(data, old.requires_grad)
        elif name in module._buffers:
            if value is not None:
                value = value.detach().clone(memory_format=torch.contiguous_format)
            module._buffers[name] = value
        elif name in module._modules:
            module._modules[name] = value
        else:
            module.__dict__[name] = value
