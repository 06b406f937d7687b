"""The statistic is measured once and read afterwards, unless something changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from mmcompress.data.images import Batch
from mmcompress.errors import DataError
from mmcompress.reconstruction import kept
from mmcompress.reconstruction.kept import measured_once


@pytest.fixture
def model() -> nn.Module:
    """A 3 x 3 convolution, in the patch form, and a 1 x 1 behind it."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 1)).eval()


def images(seed: int = 0) -> list[Batch]:
    """Eight images of 24 x 24."""
    generator = torch.Generator().manual_seed(seed)
    return [Batch(torch.randn(8, 3, 24, 24, generator=generator), [])]


def measured(model: nn.Module, folder: Path, seed: int = 0) -> dict:
    """What both layers read."""
    return measured_once(model, {'0': model[0], '1': model[1]}, images(seed), folder)


def test_read_instead_of_measured(model, tmp_path: Path, monkeypatch) -> None:
    first = measured(model, tmp_path)
    monkeypatch.setattr(kept, 'measure', lambda *args: pytest.fail('measured again'))
    second = measured(model, tmp_path)
    assert second.keys() == {'0', '1'} and second['0'].window == 9
    for name, moments in first.items():
        for field in ('mean', 'covariance', 'coverage'):
            assert torch.equal(getattr(moments, field), getattr(second[name], field))


def test_other_weights_or_images_are_measured(model, tmp_path: Path) -> None:
    measured(model, tmp_path)
    measured(model, tmp_path, seed=1)
    with torch.no_grad():
        model[0].weight.mul_(2)
    measured(model, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_damaged_file_says_what_to_do(model, tmp_path: Path) -> None:
    measured(model, tmp_path)
    path, = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match='delete the file'):
        measured(model, tmp_path)
