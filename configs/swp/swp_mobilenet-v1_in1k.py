# mmpretrain has no MobileNetV1 of its own; this is timm's (pip install timm).
_base_ = [
    'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py',
    '../_base_/search/swp_imagenet.py'
]
model = dict(
    backbone=dict(
        _delete_=True, type='TIMMBackbone', model_name='mobilenetv1_100'),
    head=dict(in_channels=1024))
# The last checkpoint of the supernet's training.
load_from = 'work_dirs/swp_mobilenet-v1_in1k_supernet/epoch_300.pth'
search_cfg = dict(targets=dict(macs=[285e6, 41e6]))
