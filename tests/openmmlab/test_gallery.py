"""Pictures of what the dense and the compressed detectors find."""

import base64
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData
from PIL import Image
from torch import nn

from mmcompress.data.images import Batch
from mmcompress.kinds import ModelKind, declare_kind
from mmcompress.openmmlab.gallery import write_gallery
from mmcompress.policy import Policy


class Finds(ModelKind):
    """A detector that finds one box of a score, in every second image or in all."""

    def __init__(self, score: float, every: int = 1) -> None:
        self.score, self.every = score, every

    def predict(self, model, batch):
        for sample in batch.data_samples:
            score = self.score * (sample.number % self.every == 0)
            sample.pred_instances = InstanceData(
                bboxes=torch.tensor([[100.0, 50.0, 300.0, 150.0]]),
                scores=torch.tensor([score]), labels=torch.tensor([0]))
        return batch.data_samples


def network(*options) -> nn.Module:
    model = nn.Identity()
    declare_kind(model, Finds(*options))
    return model


@pytest.fixture
def scoring(tmp_path) -> list[Batch]:
    """Two batches of white images of 640 x 200, of other sizes for the network."""
    Image.new('RGB', (640, 200), 'white').save(tmp_path / 'white.png')
    samples = [BaseDataElement(metainfo=dict(
        number=i, img_path=str(tmp_path / 'white.png'))) for i in range(6)]
    return [Batch(torch.zeros(4, 3, 8, 8), samples[:4]),
            Batch(torch.zeros(2, 3, 4, 8), samples[4:])]


def pixels(picture: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture)))).astype(int)


def test_pictures(scoring, tmp_path):
    session = SimpleNamespace(
        model=network(0.9, 2), evaluator=SimpleNamespace(scoring=scoring),
        materialise=lambda policy: network(policy.widths['score'] / 10))
    policies = {f'macs_0.{i}': Policy({'score': i}) for i in (9, 7, 5, 3, 2)}
    write_gallery(session, policies, tmp_path)
    found = json.loads((tmp_path / 'gallery.json').read_text())
    # The ends and the middle; images 0, 2 and 4 in which the dense one finds something.
    assert found['names'] == ['dense', 'macs_0.9', 'macs_0.5', 'macs_0.2']
    assert len(found['images']) == 3 and all(len(row) == 4 for row in found['images'])
    dense, _, _, smallest = map(pixels, found['images'][0])
    assert dense.shape == (100, 320, 3)  # half of 640 x 200
    # The box is at 50, 25 to 150, 75 there, and blue; the smallest finds none.
    assert dense[50, 50, 0] < 150 and dense[50, 100].min() > 230
    assert smallest.min() > 230


def test_what_is_no_detector_has_none(tmp_path):
    class Logits(ModelKind):
        def predict(self, model, batch):
            return torch.zeros(2, 10)

    model = nn.Identity()
    declare_kind(model, Logits())
    batch = Batch(torch.zeros(2, 3, 8, 8), [None, None])
    write_gallery(SimpleNamespace(
        model=model, evaluator=SimpleNamespace(scoring=[batch])), {}, tmp_path)
    assert not list(tmp_path.iterdir())
