_base_ = ['../cifar/resnet56_cifar10.py', '../_base_/search/two_stage_cifar10.py']
