"""Modes that a model is in for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from ..arithmetic.quantizers import Quantizer
from ..policy import FLOAT
from .shadow import shadowed


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; every module's own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def in_float(model: nn.Module) -> Iterator[None]:
    """The model without quantisation; everything as it was afterwards."""
    with shadowed((module, dict(bits=FLOAT)) for module in model.modules()
                  if isinstance(module, Quantizer)):
        yield
