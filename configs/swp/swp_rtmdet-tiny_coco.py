_base_ = [
    'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    '../_base_/search/swp_coco.py'
]
# The last checkpoint of the supernet's training.
load_from = 'work_dirs/swp_rtmdet-tiny_coco_supernet/epoch_300.pth'
