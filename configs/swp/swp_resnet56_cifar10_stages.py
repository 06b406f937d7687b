_base_ = './swp_resnet56_cifar10.py'

# No labels: stages are priced by their losses, then a knapsack over the stages.
search_cfg = dict(
    searcher=dict(_delete_=True, type='TwoStage', evaluations=40),
    prices=dict(type='StageLossPrices', images=1000, batch_size=250, choices=128))
