_base_ = '../cifar/resnet20_cifar10.py'

# Nothing in the pipeline fixes the image size.
compression = dict(
    input_shape=(3, 32, 32),
    channel=dict(
        type='ChannelMutator', importance='l2', divisor=2, min_ratio=0.1))
search_cfg = dict(
    type='PolicySearchLoop',
    searcher=dict(type='TwoStage', evaluations=40),
    evaluator=dict(
        type='PolicyEvaluator',
        metric='accuracy/top1',
        images=2000,
        calibration_images=1000,
        batch_size=250,
        dynamic_bn='recalibrate',
        # Without it the dense network loses 3 points.
        augment=True),
    # Its training images have no gradient left, crops of them have.
    prices=dict(
        type='GradientPrices', images=1024, batch_size=64, augment=True),
    targets=dict(macs=[0.75, 0.65, 0.5, 0.35]),
    storage='sqlite:///search.db')
