_base_ = [
    '../yolox/yolox_nano_coco128.py',
    '../_base_/search/reconstruct_yolox-nano_coco128.py'
]
