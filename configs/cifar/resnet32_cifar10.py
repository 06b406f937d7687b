_base_ = '../_base_/cifar10.py'

model = dict(backbone=dict(depth=32))

# Written by: tools/convert_cifar_resnet.py ../shared/data/cifar_resnet
load_from = 'work_dirs/pretrained/resnet32_cifar10.pth'
