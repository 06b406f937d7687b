_base_ = [
    '../cifar/resnet56_cifar10.py', '../_base_/search/reconstruct_cifar10.py'
]

# Rankings of layers on top of the losses of elimination.
search_cfg = dict(
    searcher=dict(
        _delete_=True, type='LeGR', evaluations=48, population=16, tournament=8))
