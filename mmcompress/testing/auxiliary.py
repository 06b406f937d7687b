"""A network with heads that only training calls."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.images import Batch
from ..kinds import ModelKind


class WithAuxiliary(nn.Module):
    """3 -> 8 -> 2 channels; in training, a head on the 8, of a layer on another.

    Nothing calls ``idle``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.aux = nn.Sequential(
            nn.Conv2d(8, 6, 3, bias=False), nn.BatchNorm2d(6), nn.Conv2d(6, 2, 1))
        self.drop, self.idle = nn.Dropout(), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Any:
        """Maps of two channels; in training, those of the head as well."""
        x = self.norm(self.a(x)).relu()
        return (self.b(x), self.aux(self.drop(x))) if self.training else self.b(x)


class LearnsZeros(ModelKind):
    """What every output is to become is zero."""

    def annotated(
        self, model: nn.Module, shape: tuple[int, ...], count: int = 1
    ) -> Batch:
        """See :meth:`ModelKind.annotated`."""
        return Batch(self.examples(model, shape, count), [])

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """See :meth:`ModelKind.loss`."""
        outputs = model(batch.inputs)
        return sum(F.mse_loss(x, torch.zeros_like(x)) for x in outputs)
