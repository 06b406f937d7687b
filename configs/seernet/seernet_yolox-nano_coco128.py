_base_ = ['../yolox/yolox_nano_coco128.py', '../_base_/search/seernet_coco.py']

# Squared weights rank channels of this depthwise network far worse than gradients.
compression = dict(
    channel=dict(importance='taylor', divisor=4, min_ratio=0.5))
search_cfg = dict(
    evaluator=dict(images=96, calibration_images=32),
    targets=dict(bops=[0.055, 0.045, 0.035]))
