_base_ = ['../cifar/resnet20_cifar10.py', '../_base_/search/ptq_cifar10.py']
