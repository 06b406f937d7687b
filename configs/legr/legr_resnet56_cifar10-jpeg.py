_base_ = ['../cifar/resnet56_cifar10-jpeg.py', '../_base_/search/legr_cifar10.py']
