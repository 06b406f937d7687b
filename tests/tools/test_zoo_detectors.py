"""Detectors of mmdet, spread over families, pass every check of the zoo."""

import pytest

from tools.zoo.check import check_config
from tools.zoo.table import counts

CONFIGS = [
    'atss/atss_r18_fpn_8xb8-amp-lsj-200e_coco.py',
    'rtmdet/rtmdet_s_8xb32-300e_coco.py',
    'faster_rcnn/faster-rcnn_r50_fpn_iou_1x_coco.py',
    'objects365/faster-rcnn_r50-syncbn_fpn_1350k_objects365v1.py',
    'yolox/yolox_l_8xb8-300e_coco.py',
    'maskformer/maskformer_r50_ms-16xb1-75e_coco.py',
    'retinanet/retinanet_r101_fpn_1x_coco.py',
    'foveabox/fovea_r101_fpn_4xb4-1x_coco.py',
    'pisa/retinanet_x101-32x4d_fpn_pisa_1x_coco.py',
    'regnet/mask-rcnn_regnetx-400MF_fpn_ms-poly-3x_coco.py',
    'hrnet/fcos_hrnetv2p-w40-gn-head_ms-640-800-4xb4-2x_coco.py',
    'solov2/solov2-light_r50_fpn_ms-3x_coco.py',
    '_base_/models/cascade-rcnn_r50_fpn.py',
    'pvt/retinanet_pvt-l_fpn_1x_coco.py',
    'mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py',
    'nas_fpn/retinanet_r50_nasfpn_crop640-50e_coco.py',
    'solo/solo_r50_fpn_1x_coco.py',
    'ms_rcnn/ms-rcnn_r50-caffe_fpn_1x_coco.py',
    'swin/mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco.py',
    'fpg/mask-rcnn_r50_fpg_crop640-50e_coco.py',
]

MENDED = [
    'gn+ws/faster-rcnn_r50_fpn_gn-ws-all_1x_coco.py',
    'detectors/cascade-rcnn_r50-sac_1x_coco.py',
    'qdtrack/qdtrack_faster-rcnn_r50_fpn_4e_base.py',
    'mask2former_vis/mask2former_r50_8xb2-8e_youtubevis2019.py',
    'crowddet/crowddet-rcnn_r50_fpn_8xb2-30e_crowdhuman.py',
    'clrnet/clrnet.py',
    'ld/ld_r18-gflv1-r101_fpn_1x_coco.py',
]
"""One of each cause that once failed; see docs/measurements/zoo.md."""


@pytest.mark.slow
@pytest.mark.parametrize('config', CONFIGS + MENDED)
def test_it_passes_every_check(config):
    result = check_config('mmdet', config)
    assert (result.stage, result.reason) == ('passed', '')
    assert counts(result), f'{result.governed:.0%} of the MACs are governed'
