"""Dropout: in training it multiplies by random masks."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.dropout import _DropoutNd


def dropouts(model: nn.Module) -> list[nn.Module]:
    """The layers that drop values at random while they train."""
    return [module for module in model.modules() if isinstance(module, _DropoutNd)]
