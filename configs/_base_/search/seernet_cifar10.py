_base_ = './seernet.py'

compression = dict(
    # Nothing in the pipeline fixes the image size.
    input_shape=(3, 32, 32),
    channel=dict(divisor=4),
    quant=dict(bits=[2, 3, 4, 5, 6, 8]))
search_cfg = dict(
    evaluator=dict(
        type='PolicyEvaluator',
        metric='accuracy/top1',
        images=2000,
        calibration_images=1000,
        batch_size=250,
        dynamic_bn='recalibrate',
        # Without it the dense network loses 3 points.
        augment=True))
