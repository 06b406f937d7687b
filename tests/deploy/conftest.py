"""Small models of every kind that can be exported."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope
from torch import nn

NORM = dict(type='BN')


def settle(model: nn.Module) -> nn.Module:
    """Give the batch norms statistics that folding has to get right."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_var, module.weight.data):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            module.weight.data[::2] *= -1
            for tensor in (module.running_mean, module.bias.data):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) / 4)
    return model.eval()


def build(config: dict, scope: str) -> nn.Module:
    """Build a model with fixed random weights."""
    init_default_scope(scope)
    torch.manual_seed(0)
    return settle(MODELS.build(ConfigDict(config)))


@pytest.fixture(scope='session')
def detector_config() -> dict:
    """A YOLOX of two levels, 3 classes."""
    return dict(
        type='mmdet.YOLOX',
        data_preprocessor=dict(
            type='mmdet.DetDataPreprocessor', mean=[10.0, 20.0, 30.0],
            std=[50.0, 60.0, 70.0], bgr_to_rgb=True, pad_size_divisor=16),
        backbone=dict(
            type='mmdet.CSPDarknet', arch_ovewrite=[
                [8, 8, 1, True, False], [8, 16, 1, True, False],
                [16, 16, 1, False, True]],
            out_indices=(2, 3), norm_cfg=NORM),
        neck=dict(
            type='mmdet.YOLOXPAFPN', in_channels=[16, 16], out_channels=8,
            num_csp_blocks=1, norm_cfg=NORM),
        bbox_head=dict(
            type='mmdet.YOLOXHead', num_classes=3, in_channels=8, feat_channels=8,
            stacked_convs=1, strides=(8, 16), norm_cfg=NORM),
        test_cfg=dict(score_thr=0.01, nms=dict(type='nms', iou_threshold=0.65)))


@pytest.fixture
def detector(detector_config: dict) -> nn.Module:
    """The small YOLOX."""
    pytest.importorskip('mmdet.models')
    return build(detector_config, 'mmdet')


@pytest.fixture(scope='session')
def detector_file(detector_config: dict, tmp_path_factory):
    """The small YOLOX as a file for one image of 64 x 96."""
    pytest.importorskip('mmdet.models')
    from mmcompress.deploy.export import export_onnx

    [file] = export_onnx(
        build(detector_config, 'mmdet'), tmp_path_factory.mktemp('deploy') / 'net.onnx',
        (3, 64, 96), classes=['a', 'b', 'c'])
    return file


@pytest.fixture
def classifier() -> nn.Module:
    """A ResNet-8 for images of 32 x 32, 10 classes."""
    pytest.importorskip('mmpretrain.models')
    import mmcompress.models  # noqa: F401  (registers CifarResNet)

    return build(dict(
        type='ImageClassifier',
        data_preprocessor=dict(mean=[120.0] * 3, std=[60.0] * 3, num_classes=10),
        backbone=dict(type='mmcompress.CifarResNet', depth=8),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead', num_classes=10, in_channels=64,
            loss=dict(type='CrossEntropyLoss'))), 'mmpretrain')
