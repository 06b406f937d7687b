_base_ = ['../yolox/yolox_nano_coco128.py', '../_base_/search/seernet.py']

# Squared weights rank channels of this depthwise network far worse than gradients.
compression = dict(
    channel=dict(importance='taylor', divisor=4, min_ratio=0.5))
search_cfg = dict(
    evaluator=dict(
        type='PolicyEvaluator',
        metric='coco/bbox_mAP',
        images=96,
        calibration_images=32,
        batch_size=8,
        dynamic_bn='recalibrate'),
    targets=dict(bops=[0.055, 0.045, 0.035]))
