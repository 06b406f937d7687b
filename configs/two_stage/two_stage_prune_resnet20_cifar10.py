_base_ = ['../cifar/resnet20_cifar10.py', '../_base_/search/prune_cifar10.py']

compression = dict(channel=dict(divisor=2))
search_cfg = dict(
    searcher=dict(type='TwoStage', evaluations=40),
    # Without it the dense network loses 3 points.
    evaluator=dict(augment=True),
    # Its training images have no gradient left, crops of them have.
    prices=dict(
        type='GradientPrices', images=1024, batch_size=64, augment=True))
