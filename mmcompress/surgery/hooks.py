"""Hooks on modules for the length of a ``with`` block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn


@contextmanager
def hooked(
    before: Mapping[nn.Module, Callable[..., Any]] | None = None,
    after: Mapping[nn.Module, Callable[..., Any]] | None = None,
) -> Iterator[None]:
    """Hook modules for a while.

    Args:
        before (Mapping | None): By module, a hook ``(module, args)``; what it returns
            replaces the arguments, unless it is None. Defaults to None: no module.
        after (Mapping | None): By module, a hook ``(module, args, output)``; likewise
            for the output.
    """
    with ExitStack() as stack:
        for module, hook in (before or {}).items():
            stack.callback(module.register_forward_pre_hook(hook).remove)
        for module, hook in (after or {}).items():
            stack.callback(module.register_forward_hook(hook).remove)
        yield
