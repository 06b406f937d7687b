_base_ = [
    'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py',
    '../_base_/search/legr_imagenet.py'
]
load_from = 'https://download.openmmlab.com/mmclassification/v0/mobilenet_v2/mobilenet_v2_batch256_imagenet_20200708-3b2dc3af.pth'
# The paper's floor and budgets for this network.
compression = dict(channel=dict(min_ratio=0.2))
search_cfg = dict(targets=dict(macs=[0.7, 0.6, 0.5]))
