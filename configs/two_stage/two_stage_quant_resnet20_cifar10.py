_base_ = '../quantisation/mixed_resnet20_cifar10.py'

search_cfg = dict(
    searcher=dict(_delete_=True, type='TwoStage', evaluations=40),
    prices=dict(type='GradientPrices', images=1024, batch_size=64))
