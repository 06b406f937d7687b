_base_ = ['../cifar/resnet20_cifar10.py', '../_base_/search/quantise_cifar10.py']
