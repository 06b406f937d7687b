# Widths alone; a config adds the searcher. Nothing in the pipeline fixes the image
# size.
compression = dict(
    input_shape=(3, 32, 32),
    channel=dict(
        type='ChannelMutator', importance='l2', divisor=4, min_ratio=0.1))
search_cfg = dict(
    type='PolicySearchLoop',
    evaluator=dict(
        type='PolicyEvaluator',
        metric='accuracy/top1',
        images=2000,
        calibration_images=1000,
        batch_size=250,
        dynamic_bn='recalibrate'),
    targets=dict(macs=[0.75, 0.65, 0.5, 0.35]),
    storage='sqlite:///search.db')
