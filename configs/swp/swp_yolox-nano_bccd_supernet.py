_base_ = './swp_yolox-nano_bccd.py'
# From COCO's weights; squared gradients rank the channels of depthwise layers.
load_from = '{{$DATA_ROOT:../shared/data}}/yolox_nano/yolox_nano_coco_mmdet.pth'
train_cfg = dict(type='mmcompress.SupernetTrainLoop', sort='taylor')
