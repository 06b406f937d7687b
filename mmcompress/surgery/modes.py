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
def tables_kept(model: nn.Module) -> Iterator[None]:
    """Undo what forward passes put in the place of buffers, and note about it.

    The rotary embedding of EVA-02 computes its tables anew for every other size of
    images. Left with those of a small image, a model has another fingerprint, and a
    checkpoint that its own config does not fit.
    """
    before = [(module, dict(module._buffers), dict(vars(module)))
              for module in model.modules() if module._buffers]
    try:
        yield
    finally:
        for module, buffers, attributes in before:
            if any(module._buffers.get(k) is not v for k, v in buffers.items()):
                vars(module).update(attributes)
                module._buffers.update(buffers)


@contextmanager
def in_float(model: nn.Module) -> Iterator[None]:
    """The model without quantisation; everything as it was afterwards."""
    with shadowed((module, dict(bits=FLOAT)) for module in model.modules()
                  if isinstance(module, Quantizer)):
        yield
