_base_ = [
    'mmpretrain::resnet/resnet50_8xb32_in1k.py',
    '../_base_/search/two_stage_imagenet.py'
]
load_from = 'https://download.openmmlab.com/mmclassification/v0/resnet/resnet50_8xb32_in1k_20210831-ea4938fc.pth'

# The published setting: weights compressed 12.24 times, in bits and filters.
compression = dict(
    channel=dict(divisor=16), quant=dict(bits=[2, 3, 4, 6, 8]))
search_cfg = dict(targets=dict(size_bytes=[0.125, 0.0817], bops=[0.03125]))
