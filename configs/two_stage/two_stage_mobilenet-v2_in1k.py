_base_ = [
    'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py',
    '../_base_/search/two_stage_imagenet.py'
]
load_from = 'https://download.openmmlab.com/mmclassification/v0/mobilenet_v2/mobilenet_v2_batch256_imagenet_20200708-3b2dc3af.pth'

# The published setting: weights compressed 7.49 times, in bits and filters.
compression = dict(quant=dict(bits=[3, 4, 6, 8]))
search_cfg = dict(targets=dict(size_bytes=[0.16, 0.1335], bops=[0.046875]))
