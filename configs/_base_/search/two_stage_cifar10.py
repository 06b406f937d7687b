_base_ = './joint_cifar10.py'

search_cfg = dict(
    searcher=dict(_delete_=True, type='TwoStage', evaluations=40),
    # Without it the dense network loses 3 points.
    evaluator=dict(dynamic_bn='recalibrate', augment=True),
    # Its training images have no gradient left, crops of them have.
    prices=dict(
        type='GradientPrices', images=1024, batch_size=64, augment=True))
