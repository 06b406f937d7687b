_base_ = [
    'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py',
    '../_base_/search/seernet_imagenet.py'
]
load_from = 'https://download.openmmlab.com/mmclassification/v0/mobilenet_v2/mobilenet_v2_batch256_imagenet_20200708-3b2dc3af.pth'
# Depthwise layers suffer more: the released labels keep to 4 bits and up as well.
compression = dict(channel=dict(min_ratio=0.5))
search_cfg = dict(targets=dict(bops=[0.05, 0.04, 0.03]))
