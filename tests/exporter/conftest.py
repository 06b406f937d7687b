"""Small models of every kind that can be exported."""

import copy
from collections.abc import Callable

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope
from torch import nn

NORM = dict(type='BN')
# Of the detectors with an FPN: two levels of 8 channels, strides 4 and 8.
BODY = dict(
    data_preprocessor=dict(type='mmdet.DetDataPreprocessor'),
    backbone=dict(
        type='mmdet.ResNet', depth=18, base_channels=8, stem_channels=8, num_stages=2,
        strides=(1, 2), dilations=(1, 1), out_indices=(0, 1), norm_cfg=NORM),
    neck=dict(type='mmdet.FPN', in_channels=[8, 16], out_channels=8, num_outs=2))


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


HEADS = dict(
    retina=dict(
        type='mmdet.RetinaHead',
        anchor_generator=dict(
            type='AnchorGenerator', scales=[4], ratios=[0.5, 1.0], strides=[4, 8])),
    fcos=dict(type='mmdet.FCOSHead', strides=[4, 8], norm_cfg=NORM),
    gfl=dict(
        type='mmdet.GFLHead', norm_cfg=NORM, reg_max=4, anchor_generator=dict(
            type='AnchorGenerator', scales=[4], ratios=[1.0], strides=[4, 8])))


@pytest.fixture
def dense_detector():
    """Builds detectors of 3 classes, strides 4 and 8, with a head of ``HEADS``."""
    pytest.importorskip('mmdet.models')

    def made(kind: str) -> nn.Module:
        model = build(dict(
            type='mmdet.RetinaNet',
            **BODY,
            bbox_head=dict(
                num_classes=3, in_channels=8, feat_channels=8, stacked_convs=1,
                **HEADS[kind]),
            test_cfg=dict(
                nms_pre=100, min_bbox_size=0, score_thr=0.05, max_per_img=40,
                nms=dict(type='nms', iou_threshold=0.5))), 'mmdet')
        # As they are initialised, all scores are alike.
        generator = torch.Generator().manual_seed(0)
        image = torch.randn((1, 3, 64, 64), generator=generator)
        with torch.no_grad():
            scores = model.bbox_head(model.extract_feat(image))[0]
            spread = torch.cat([x.flatten() for x in scores]).std()
            for name, weight in model.bbox_head.named_parameters():
                if '_cls.' in name:
                    weight.mul_(2 / spread if weight.dim() > 1 else 0)
        return model

    return made


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


def build_region_detector(kind: str) -> nn.Module:
    """See :func:`region_detector`."""
    coder = dict(
        type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[0.1] * 4)
    nms = dict(type='nms', iou_threshold=0.7)

    def extractor(size: int) -> dict:
        return dict(
            type='SingleRoIExtractor', out_channels=8, featmap_strides=[4, 8],
            roi_layer=dict(type='RoIAlign', output_size=size, sampling_ratio=0))

    roi_head = dict(
        type='mmdet.StandardRoIHead', bbox_roi_extractor=extractor(3),
        bbox_head=dict(
            type='Shared2FCBBoxHead', in_channels=8, fc_out_channels=16,
            roi_feat_size=3, num_classes=3, bbox_coder=coder))
    if kind != 'faster':
        roi_head.update(
            mask_roi_extractor=extractor(6),
            mask_head=dict(
                type='FCNMaskHead', num_convs=1, in_channels=8, conv_out_channels=8,
                num_classes=3))
    if kind == 'cascade':
        roi_head.update(
            type='mmdet.CascadeRoIHead', num_stages=2, stage_loss_weights=[1, 0.5],
            **{k: [v, copy.deepcopy(v)] for k, v in roi_head.items() if k != 'type'})
    return build(dict(
        type='mmdet.FasterRCNN' if kind == 'faster' else 'mmdet.MaskRCNN',
        **BODY,
        rpn_head=dict(
            type='mmdet.RPNHead', in_channels=8, feat_channels=8, bbox_coder=coder,
            anchor_generator=dict(
                type='AnchorGenerator', scales=[8], ratios=[1.0], strides=[4, 8])),
        roi_head=roi_head,
        test_cfg=dict(
            rpn=dict(nms_pre=50, max_per_img=20, nms=nms, min_bbox_size=0),
            rcnn=dict(
                score_thr=0.05, nms=nms, max_per_img=20, mask_thr_binary=0.5)),
        train_cfg=None), 'mmdet')
