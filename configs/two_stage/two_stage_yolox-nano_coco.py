_base_ = [
    'mmdet::yolox/yolox_nano_8xb8-300e_coco.py',
    '../_base_/search/two_stage_coco.py'
]
load_from = '{{$DATA_ROOT:../shared/data}}/yolox_nano/yolox_nano_coco_mmdet.pth'

# Squared weights rank channels of this depthwise network far worse than gradients.
compression = dict(
    channel=dict(importance='taylor', divisor=4), quant=dict(bits=[4, 5, 6, 8]))
