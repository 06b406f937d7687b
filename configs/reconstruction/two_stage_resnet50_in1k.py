_base_ = [
    'mmpretrain::resnet/resnet50_8xb32_in1k.py',
    '../_base_/search/reconstruct_in1k.py'
]
load_from = 'https://download.openmmlab.com/mmclassification/v0/resnet/resnet50_8xb32_in1k_20210831-ea4938fc.pth'
compression = dict(channel=dict(divisor=16))
