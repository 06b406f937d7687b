"""Forwards of attentions that call their layers, for a while or for good."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from ..layers.attention import attentions
from ..layers.rule import rule_of
from .shadow import overwrite, shadowed


@contextmanager
def any_number_of_heads(model: nn.Module) -> Iterator[None]:
    """Let every attention run a forward that calls its layers, for a while."""
    with shadowed((module, rule_of(module).stand_in(module))
                  for module in attentions(model).values()):
        yield


def call_layers(model: nn.Module) -> None:
    """Let every attention call its layers from now on; no output changes."""
    for module in attentions(model).values():
        overwrite(module, rule_of(module).stand_in(module))
