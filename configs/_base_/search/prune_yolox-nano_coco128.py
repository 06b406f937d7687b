# Widths alone; a config adds the searcher. Squared weights rank channels of this
# depthwise network far worse than gradients.
compression = dict(
    channel=dict(
        type='ChannelMutator', importance='taylor', divisor=4, min_ratio=0.1))
search_cfg = dict(
    type='PolicySearchLoop',
    evaluator=dict(
        type='PolicyEvaluator',
        metric='coco/bbox_mAP',
        images=96,
        calibration_images=32,
        batch_size=8,
        dynamic_bn='recalibrate'),
    targets=dict(macs=[0.95, 0.9, 0.8, 0.7]),
    storage='sqlite:///search.db')
