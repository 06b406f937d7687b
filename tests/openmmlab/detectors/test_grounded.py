"""Detectors that take words are traced with a few words of their own choice."""

from types import SimpleNamespace

import pytest
import torch
from mmdet.utils import register_all_modules
from mmengine.hub import get_config
from mmengine.registry import MODELS
from torch import nn

from mmcompress.graph.inputs import run
from mmcompress.kinds import kind_of
from mmcompress.openmmlab.detectors.grounded import captions
from mmcompress.openmmlab.kinds import Grounded
from mmcompress.testing.networks import check_network
from tools.zoo import check as zoo
from tools.zoo.offline import mend_grounding_dino

SHAPE = (3, 64, 96)
WIDTH = 16
CONFIG = 'mmdet::grounding_dino/grounding_dino_r50_scratch_8xb2_1x_coco.py'


class Letters(nn.Module):
    """A language model of which every letter is a token, and which needs no hub."""

    max_tokens, pad_to_max = 256, False

    def __init__(self) -> None:
        super().__init__()
        self.language_backbone = nn.Module()
        self.language_backbone.body = SimpleNamespace(language_dim=WIDTH)
        self.embedding = nn.Embedding(128, WIDTH)

    def tokenizer(self, texts: list[str], **_: object) -> SimpleNamespace:
        return SimpleNamespace(
            input_ids=torch.tensor([list(map(ord, text)) for text in texts]),
            char_to_token=lambda place: place)

    def forward(self, texts: list[str]) -> dict[str, torch.Tensor]:
        ids = self.tokenizer(texts).input_ids.to(self.embedding.weight.device)
        mask = ids != ord(' ')
        return dict(
            embedded=self.embedding(ids), text_token_mask=mask,
            masks=torch.ones(*ids.shape, ids.shape[1], dtype=torch.bool),
            position_ids=torch.arange(ids.shape[1]).expand_as(ids))


@pytest.fixture
def detector() -> nn.Module:
    """Grounding DINO of one layer each, on few channels."""
    register_all_modules()
    mend_grounding_dino()
    MODELS.register_module('Letters', module=Letters, force=True)
    model = get_config(CONFIG).model
    model.language_model, model.num_queries = dict(type='Letters'), 10
    model.backbone.update(depth=18, base_channels=8, init_cfg=None)
    model.neck.in_channels = [16, 32, 64]
    model.encoder.update(num_layers=1, num_cp=-1)
    model.decoder.num_layers = 1
    torch.manual_seed(0)
    return MODELS.build(model).eval()


def test_grounding_dino_passes_every_check(detector):
    assert isinstance(kind_of(detector), Grounded)
    report = check_network(detector, SHAPE)
    assert report.left_out == 0
    assert report.permuted < zoo.EXACT
    assert max(report.zeroed, report.materialised) < zoo.CLOSE
    assert (report.macs, report.params) == (report.true_macs, report.true_params)


def test_scores_are_those_of_tokens(detector):
    with torch.no_grad():
        (((scores, boxes),), _) = run(detector, SHAPE)
    # 'person. car. dog. ' has 18 letters, of which 3 are spaces; 1 decoder layer.
    assert scores.shape == (1, 1, 10, 18) and boxes.shape == (1, 1, 10, 4)
    assert scores.isfinite().all()
    assert (scores == 0).sum() == 10 * 3


def test_words_are_looked_for_in_rounds_where_the_detector_says_so(detector):
    batch = kind_of(detector).batch(detector, torch.zeros(2, *SHAPE))
    whole = 'person. car. dog. '
    assert captions(detector, batch.data_samples) == [[whole, whole]]
    detector.test_cfg = dict(chunked_size=2)
    assert captions(detector, batch.data_samples) == [
        ['person. car. '] * 2, ['dog. '] * 2]
    with torch.no_grad():
        rounds, _ = run(detector, SHAPE)
    assert [scores.shape[-1] for scores, _ in rounds] == [13, 5]
