"""Which weights a model has, and which numbers tensors hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def weights_digest(model: nn.Module) -> str:
    """Hash of all parameters and buffers of a model, 16 hexadecimal digits."""
    return tensors_digest(model.state_dict().values())


def tensors_digest(tensors: Iterable[Tensor]) -> str:
    """Hash of the numbers in some tensors, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().reshape(-1)
                      .view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
