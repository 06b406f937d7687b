_base_ = [
    'mmpretrain::resnet/resnet50_8xb32_in1k.py',
    '../_base_/search/swp_imagenet.py'
]
# The last checkpoint of the supernet's training.
load_from = 'work_dirs/swp_resnet50_in1k_supernet/epoch_100.pth'
search_cfg = dict(targets=dict(macs=[2.0e9, 1.0e9]))
