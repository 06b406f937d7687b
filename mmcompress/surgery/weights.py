"""Which weights a model has, and which numbers tensors hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..errors import CompressionError


def weights_digest(model: nn.Module) -> str:
    """Hash of all parameters and buffers of a model, 16 hexadecimal digits."""
    return tensors_digest(model.state_dict().values())


def check_finite(model: nn.Module) -> None:
    """Raise :class:`CompressionError` if a weight or a statistic is no number."""
    buffers = dict(model.named_buffers(remove_duplicate=False))
    wrong = [name for name, value in model.state_dict().items()
             if value.is_floating_point() and (
                 value.isnan().any() or (name not in buffers and value.isinf().any()))]
    if wrong:
        raise CompressionError(
            f'{len(wrong)} tensors of {type(model).__name__} hold NaN or infinity, '
            f'e.g. {wrong[0]}: its training diverged, or the file is damaged. Load '
            'another checkpoint.')


def tensors_digest(tensors: Iterable[Tensor]) -> str:
    """Hash of the numbers in some tensors, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().reshape(-1)
                      .view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
