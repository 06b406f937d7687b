_base_ = [
    'mmdet::yolox/yolox_nano_8xb8-300e_coco.py',
    '../_base_/search/swp_coco.py'
]
# The last checkpoint of the supernet's training.
load_from = 'work_dirs/swp_yolox-nano_coco_supernet/epoch_300.pth'
compression = dict(channel=dict(divisor=4))
