"""What must hold for every real network: equalities, exact counts, reach."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_checkpoint, set_random_seed
from torch import nn

from mmcompress.openmmlab.models import convert_akamaster
from mmcompress.testing.networks import NetworkReport, check_network


def build(config: Config) -> nn.Module:
    """The model of a config with random weights, nothing downloaded."""
    init_default_scope(config.default_scope)
    set_random_seed(0)
    config.model.backbone.init_cfg = None
    return MODELS.build(config.model)


def check(report: NetworkReport, units: int) -> None:
    """No unit fails, every layer is governed, nothing differs, counts are exact."""
    assert (report.units, report.left_out) == (units, 0)
    assert report.governed == 1
    assert report.permuted < 1e-5
    assert report.zeroed < 1e-4
    assert report.materialised < 1e-4
    assert report.macs == report.true_macs
    assert report.params == report.true_params


def test_cifar_resnet56(repo, data_folder):
    model = build(Config.fromfile(repo / 'configs/cifar/resnet56_cifar10.py'))
    weights = data_folder / 'cifar_resnet/resnet56_cifar10.pth'
    if weights.exists():
        model.load_state_dict(convert_akamaster(torch.load(weights, weights_only=True)))
    # 27 inside the blocks; one a stage, which the shortcuts tie.
    check(check_network(model, (3, 32, 32)), units=30)


def test_yolox_nano(repo, data_folder):
    model = build(Config.fromfile(repo / 'configs/yolox/yolox_nano_coco128.py'))
    weights = data_folder / 'yolox_nano/yolox_nano_coco_mmdet.pth'
    if weights.exists():
        load_checkpoint(model, str(weights), strict=True)
    check(check_network(model, (3, 96, 96)), units=67)


@pytest.mark.parametrize('name, size, units', [
    ('mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py', 64, 25),
    # 8 inside the blocks, one a stage (the first with the stem).
    ('mmpretrain::resnet/resnet18_8xb32_in1k.py', 64, 12),
    # 32 inside the blocks, one a stage, the stem.
    pytest.param('mmpretrain::resnet/resnet50_8xb32_in1k.py', 64, 37,
                 marks=pytest.mark.slow),
    pytest.param('mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py', 96, 55,
                 marks=pytest.mark.slow),
    # The backbone as above, 2 units in the neck, 8 in the heads.
    pytest.param('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', 128, 47,
                 marks=pytest.mark.slow),
    # Two stages: likewise 2 units in the neck, then the RPN's conv and two linear
    # layers, of which the first reads the boxes of all levels.
    pytest.param('mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', 128, 42,
                 marks=pytest.mark.slow),
], ids=lambda value: value.split('/')[1] if isinstance(value, str) else '')
def test_config(tmp_path, name, size, units):
    (tmp_path / 'config.py').write_text(f'_base_ = {name!r}\n')
    model = build(Config.fromfile(tmp_path / 'config.py'))
    check(check_network(model, (3, size, size)), units)
