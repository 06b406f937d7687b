"""Small detectors of mmdet, from its own configs, with random weights."""

from __future__ import annotations

from mmengine.config import ConfigDict
from mmengine.hub import get_config

RESNET = [64, 128, 256, 512]
CLASSES = 4
CONFIGS = dict(
    yolox='yolox/yolox_nano_8xb8-300e_coco.py',
    retinanet='retinanet/retinanet_r18_fpn_1x_coco.py',
    rtmdet='rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    gfl='gfl/gfl_r50_fpn_1x_coco.py',
    fcos='fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    fcos_normed='fcos/fcos_r50-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x'
                '_coco.py',
    faster_rcnn='faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py')


def small(name: str) -> ConfigDict:
    """The model of a config of mmdet, few channels wide, for 4 classes."""
    model = get_config(f'mmdet::{CONFIGS[name]}').model
    model.data_preprocessor.pop('batch_augments', None)  # would enlarge the images
    model.backbone.init_cfg = None  # no download
    if name == 'yolox':
        _narrow(model, model.bbox_head, 16)
        model.backbone.widen_factor = 0.0625
        model.neck.in_channels = [16, 32, 64]
    elif name == 'rtmdet':
        _narrow(model, model.bbox_head, 32)
        model.backbone.widen_factor = 0.125
        model.neck.in_channels = [32, 64, 128]
        for part in (model.backbone, model.neck, model.bbox_head):
            part.norm_cfg = dict(type='BN')  # SyncBN needs a GPU
    else:
        head = model.rpn_head if name == 'faster_rcnn' else model.bbox_head
        _narrow(model, head, 32)
        model.backbone.update(depth=18, style='pytorch')
        model.neck.in_channels = RESNET
    if name == 'faster_rcnn':
        _few_boxes(model)
    return model


def _narrow(model: ConfigDict, head: ConfigDict, channels: int) -> None:
    model.neck.out_channels = channels
    head.update(in_channels=channels, feat_channels=channels)
    if head.type != 'RPNHead':
        head.update(stacked_convs=1, num_classes=CLASSES)


def _few_boxes(model: ConfigDict) -> None:
    roi = model.roi_head
    roi.bbox_roi_extractor.out_channels = 32
    roi.bbox_head.update(in_channels=32, fc_out_channels=32, num_classes=CLASSES)
    for stage in (model.train_cfg.rpn_proposal, model.test_cfg.rpn):
        stage.update(nms_pre=50, max_per_img=20)
    model.train_cfg.rcnn.sampler.num = 16
