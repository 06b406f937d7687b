"""Places count as far as an error there changes what the network says."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmcompress.data.images import Batch
from mmcompress.reconstruction import guidance
from mmcompress.reconstruction.guidance import calls, drawn_by


class Cropped(nn.Module):
    """Only the left half of the map is looked at, its first column twice as hard."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.unused = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        self.unused(x)
        return self.layer(x)[..., :2] * torch.tensor([2.0, 1.0])


def test_weights_are_squared_gradients():
    model = Cropped().eval()
    layers = {'layer': model.layer, 'unused': model.unused}
    batch = Batch(torch.randn(3, 1, 2, 4), [])
    found = {name: weights.reshape(3, 2, 4) for name, _, weights in calls(
        model, layers, batch, torch.Generator().manual_seed(0))}
    # Squares 4 and 1 of the columns that are looked at, in 3 images of 2 rows.
    wanted = torch.tensor([4.0, 1.0, 0.0, 0.0]).double() / (5 * 6)
    torch.testing.assert_close(found['layer'], wanted.expand(3, 2, 4))
    assert not found['unused'].any()
    assert model.layer.weight.grad is None and not batch.inputs.requires_grad


def test_places_follow_their_weights(monkeypatch):
    monkeypatch.setattr(guidance, 'GUIDED', 1.0)
    weights = torch.tensor([0.5, 0.0, 0.25, 0.25]).double()
    places = drawn_by(weights.repeat_interleave(25) / 25, 40, torch.Generator())
    counts = torch.bincount(places // 25, minlength=4).tolist()
    assert sum(counts) == 40 and counts[1] == 0
    assert abs(counts[0] - 20) <= 1 and abs(counts[2] - 10) <= 1


def test_equal_weights_give_every_place_once():
    for weights in (torch.full((30,), 1 / 30).double(), torch.zeros(30).double()):
        places = drawn_by(weights, 100, torch.Generator().manual_seed(1))
        assert places.tolist() == list(range(30))
