_base_ = ['../cifar/resnet56_cifar10.py', '../_base_/search/prune_cifar10.py']

search_cfg = dict(searcher=dict(type='Evolution', evaluations=300))
