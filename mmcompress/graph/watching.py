"""Layers of a model that runs, one call at a time."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager

from torch import nn

from ..layers.rule import is_followed


def layer_names(model: nn.Module) -> dict[nn.Module, str]:
    """Paths of the modules whose rules have a say in where labels go."""
    return {m: n for n, m in model.named_modules() if is_followed(m)}


@contextmanager
def watched(
    model: nn.Module, call: Callable, without: Container[str] = ()
) -> Iterator[None]:
    """Route every layer with a rule through ``call(module, name, forward, args)``.

    Args:
        model (nn.Module): The model.
        call (Callable): What runs the layers.
        without (Container[str]): Names of layers that run on their own.
    """
    found = {m: n for m, n in layer_names(model).items() if n not in without}
    for module, name in found.items():
        def forward(*args, _m=module, _n=name, _f=module.forward, **kwargs):
            return call(_m, _n, _f, args, kwargs)
        module.forward = forward
    try:
        yield
    finally:
        for module in found:
            del module.forward
