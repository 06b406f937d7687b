_base_ = [
    'mmpretrain::resnet/resnet18_8xb32_in1k.py',
    '../_base_/search/seernet_imagenet.py'
]
load_from = 'https://download.openmmlab.com/mmclassification/v0/resnet/resnet18_8xb32_in1k_20210831-fbbb1da6.pth'
# The released labels of this network have 2, 4, 6 and 8 bits.
compression = dict(quant=dict(bits=[2, 4, 6, 8]))
