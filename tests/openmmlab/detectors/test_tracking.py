"""Track heads run on features of the detector, at boxes that stay."""

import pytest
import torch
from mmdet.models.vis import Mask2FormerVideo
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import ConfigDict
from mmengine.model import BaseModel
from small_detectors import small
from torch import nn

from mmcompress.data.images import Batch
from mmcompress.graph import trace
from mmcompress.graph.inputs import run
from mmcompress.kinds import kind_of
from mmcompress.testing.networks import check_network
from tools.zoo import check as zoo

SHAPE = (3, 128, 160)
REGIONS = ConfigDict(
    type='SingleRoIExtractor', out_channels=32, featmap_strides=[4, 8, 16, 32],
    roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0))
EMBED = dict(
    QuasiDense=dict(
        type='QuasiDenseEmbedHead', num_convs=1, num_fcs=1, embed_channels=8,
        fc_out_channels=16, conv_out_channels=16, in_channels=32,
        norm_cfg=dict(type='GN', num_groups=4),
        loss_track=dict(type='MultiPosCrossEntropyLoss', loss_weight=0.25),
        loss_track_aux=dict(type='MarginL2Loss', neg_pos_ub=3)),
    RoI=dict(type='RoIEmbedHead', num_fcs=2, roi_feat_size=7, in_channels=32,
             fc_out_channels=16))


@pytest.fixture(params=EMBED)
def tracker(request) -> nn.Module:
    """QDTrack with a small Faster R-CNN, and either sort of track head."""
    register_all_modules()
    detector = small('faster_rcnn')
    detector.pop('data_preprocessor')
    detector.test_cfg.rcnn.max_per_img = 12
    torch.manual_seed(0)
    return MODELS.build(ConfigDict(
        type='QDTrack', detector=detector,
        data_preprocessor=dict(type='TrackDataPreprocessor'),
        track_head=dict(type=f'{request.param}TrackHead', roi_extractor=REGIONS,
                        embed_head=EMBED[request.param]))).eval()


def test_a_network_with_a_track_head_passes_every_check(tracker):
    report = check_network(tracker, SHAPE)
    assert report.left_out == 0 and report.governed > 0.9
    assert report.permuted < zoo.EXACT
    assert max(report.zeroed, report.materialised) < zoo.CLOSE
    assert (report.macs, report.params) == (report.true_macs, report.true_params)


def test_objects_are_described_as_often_as_the_detector_finds_them(tracker):
    graph = trace(tracker, SHAPE)
    layers = {layer.name: layer for layer in graph.layers}
    head = tracker.track_head.embed_head
    # One head compares the objects with those before, which it describes anew.
    twice = 2 if type(head).__name__ == 'RoIEmbedHead' else 1
    assert layers['track_head.embed_head.fcs.0'].positions == 12 * twice
    stem = layers['detector.backbone.conv1']
    assert stem.calls == 1, 'the features are the detector\'s own'


def test_the_track_head_says_something_about_the_same_objects(tracker):
    with torch.no_grad():
        one, other = (run(tracker, SHAPE, boxes=3)[0][-1] for _ in range(2))
    one, other = (x if torch.is_tensor(x) else x[0][0] for x in (one, other))
    assert len(one) == 3 and torch.equal(one, other)
    assert 'extract_feat' not in vars(tracker.detector)


class Frames(Mask2FormerVideo):
    """As much of a video segmenter as its kind asks for."""

    def __init__(self) -> None:
        BaseModel.__init__(self)
        self.backbone = nn.Conv2d(3, 4, 1)
        self.track_head = Together()


class Together(nn.Module):
    """A head that looks at all frames at once."""

    def forward(self, x, data_samples):
        """The mean over frames."""
        return x.mean(0)


def test_images_of_a_batch_are_frames_of_one_video():
    model, images = Frames(), torch.rand(2, 3, 4, 4)
    found = kind_of(model).raw(model, Batch(images, []))
    assert torch.equal(found, model.backbone(images).mean(0))
