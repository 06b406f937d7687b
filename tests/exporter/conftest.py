"""Small models of every kind that can be exported."""

from collections.abc import Callable

import pytest
from models_in_parts import (
    NORM,
    build,
    build_dense_detector,
    build_region_detector,
)
from torch import nn


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


@pytest.fixture(scope='session')
def new_detector(detector_config: dict) -> Callable[[], nn.Module]:
    """Builds the small YOLOX."""
    pytest.importorskip('mmdet.models')
    return lambda: build(detector_config, 'mmdet')


@pytest.fixture
def detector(new_detector: Callable[[], nn.Module]) -> nn.Module:
    """The small YOLOX."""
    return new_detector()


@pytest.fixture(scope='session')
def detector_file(detector_config: dict, tmp_path_factory):
    """The small YOLOX as a file for one image of 64 x 96."""
    pytest.importorskip('mmdet.models')
    from mmcompress.exporter.export import ExportOptions, export_onnx

    [file] = export_onnx(
        build(detector_config, 'mmdet'), tmp_path_factory.mktemp('deploy') / 'net.onnx',
        ExportOptions((3, 64, 96), classes=['a', 'b', 'c']))
    return file


@pytest.fixture
def dense_detector():
    """Builds detectors; see :func:`build_dense_detector`."""
    pytest.importorskip('mmdet.models')

    return build_dense_detector


@pytest.fixture
def classifier() -> nn.Module:
    """A ResNet-8 for images of 32 x 32, 10 classes."""
    pytest.importorskip('mmpretrain.models')
    import mmcompress.openmmlab.models  # noqa: F401  (registers CifarResNet)

    return build(dict(
        type='ImageClassifier',
        data_preprocessor=dict(mean=[120.0] * 3, std=[60.0] * 3, num_classes=10),
        backbone=dict(type='mmcompress.CifarResNet', depth=8),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead', num_classes=10, in_channels=64,
            loss=dict(type='CrossEntropyLoss'))), 'mmpretrain')


@pytest.fixture
def two_stage(region_detector) -> nn.Module:
    """A Faster R-CNN of 3 classes whose feature maps have 8 channels."""
    return region_detector('faster')


@pytest.fixture
def region_detector() -> Callable[[str], nn.Module]:
    """Builds a 'faster', 'mask' or 'cascade' R-CNN, the last one with masks, too."""
    pytest.importorskip('mmdet.models')
    return build_region_detector
