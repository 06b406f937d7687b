"""How far a model's outputs are from those of the dense one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import CompressionError
from ..graph.labels import tensors_in
from .images import Batch, forward_raw


class Reference:
    """Raw outputs of the dense model on some images, kept in memory.

    Args:
        model (nn.Module): The dense model as it is, in evaluation mode.
        batches (Sequence[Batch]): The images.
    """

    def __init__(self, model: nn.Module, batches: Sequence[Batch]) -> None:
        self.batches = batches
        self.outputs = [raw_outputs(model, batch) for batch in batches]
        self.variances = [
            float(torch.cat([x.double().flatten() for x in output]).var(unbiased=False))
            for output in zip(*self.outputs)]

    def distance(self, model: nn.Module) -> float:
        """Mean square difference over the variance, mean of the output tensors.

        Needs no labels, and of few images tells policies apart that a metric does
        not. An output of no variance is left out.

        Args:
            model (nn.Module): As the dense one, with outputs of the same shapes.

        Raises:
            CompressionError: Outputs of other shapes.
        """
        sums = [0.0] * len(self.variances)
        counts = [0] * len(self.variances)
        for batch, outputs in zip(self.batches, self.outputs):
            found = raw_outputs(model, batch)
            if [x.shape for x in found] != [x.shape for x in outputs]:
                raise CompressionError(
                    'The distance from the dense model needs outputs of fixed shapes, '
                    'which proposals of a two-stage detector are not; use the loss.')
            for i, (x, wanted) in enumerate(zip(found, outputs)):
                sums[i] += float((x - wanted).double().square().sum())
                counts[i] += x.numel()
        shares = [total / count / variance for total, count, variance
                  in zip(sums, counts, self.variances) if variance > 0]
        return sum(shares) / len(shares)


@torch.no_grad()
def raw_outputs(model: nn.Module, batch: Batch) -> list[Tensor]:
    """The floating-point tensors that a model returns for a batch."""
    return [x for x in tensors_in(forward_raw(model, batch)) if x.is_floating_point()]
