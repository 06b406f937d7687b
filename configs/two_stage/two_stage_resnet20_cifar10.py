_base_ = ['../cifar/resnet20_cifar10.py', '../_base_/search/two_stage_cifar10.py']
