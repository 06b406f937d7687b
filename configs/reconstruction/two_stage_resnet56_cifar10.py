_base_ = [
    '../cifar/resnet56_cifar10.py', '../_base_/search/reconstruct_cifar10.py'
]
