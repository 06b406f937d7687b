"""How far outputs are from those of the dense model."""

import pytest
import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmcompress.errors import CompressionError
from mmcompress.evaluation.distance import Reference
from mmcompress.evaluation.images import Batch


class Affine(BaseModel):
    """Returns scaled images, a constant, and labels that are no floats."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.skipped = 0

    def forward(self, inputs: Tensor, data_samples: list | None = None,
                mode: str = 'tensor'):
        return (inputs * self.scale)[self.skipped:], dict(
            constant=torch.ones(2), labels=torch.zeros(2, dtype=torch.long))


def test_mean_square_difference_over_the_variance():
    model = Affine()
    batches = [Batch(torch.tensor([[[[1.0]]]]), []),
               Batch(torch.tensor([[[[3.0]]], [[[8.0]]]]), [])]
    reference = Reference(model, batches)
    assert reference.distance(model) == 0
    model.scale.data.fill_(1.5)
    # Halves of 1, 3 and 8: (0.25 + 2.25 + 16) / 3; the variance of 1, 3 and 8 is
    # 74 / 3 - 16 = 26 / 3. The constant has none and does not count.
    assert reference.distance(model) == pytest.approx(18.5 / 26)


def test_outputs_of_other_shapes_are_refused():
    model = Affine()
    reference = Reference(model, [Batch(torch.rand(2, 1, 2, 2), [])])
    model.skipped = 1
    with pytest.raises(CompressionError, match='fixed shapes'):
        reference.distance(model)
