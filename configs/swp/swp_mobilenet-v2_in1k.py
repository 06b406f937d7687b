_base_ = [
    'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py',
    '../_base_/search/swp_imagenet.py'
]
# The last checkpoint of the supernet's training.
load_from = 'work_dirs/swp_mobilenet-v2_in1k_supernet/epoch_300.pth'
search_cfg = dict(targets=dict(macs=[220e6, 43e6]))
