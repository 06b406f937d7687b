_base_ = ['../yolox/yolox_nano_coco128.py', '../_base_/search/seernet.py']

# Squared weights rank channels of this depthwise network far worse than gradients.
# Without training, it finds nothing any more below 0.9 of its MACs.
compression = dict(
    channel=dict(importance='taylor', divisor=4, min_ratio=0.85),
    quant=dict(bits=[4, 5, 6, 8]))
search_cfg = dict(
    evaluator=dict(
        type='PolicyEvaluator',
        metric='coco/bbox_mAP',
        images=96,
        calibration_images=32,
        batch_size=8,
        dynamic_bn='recalibrate'),
    targets=dict(bops=[0.047, 0.039, 0.031]))
