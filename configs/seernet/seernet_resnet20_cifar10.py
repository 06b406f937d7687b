_base_ = ['../cifar/resnet20_cifar10.py', '../_base_/search/seernet_cifar10.py']
