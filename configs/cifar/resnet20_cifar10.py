_base_ = [
    '../_base_/models/cifar_resnet.py',
    '../_base_/datasets/cifar10_subset.py',
    '../_base_/schedules/cifar10_finetune.py',
    '../_base_/cifar_runtime.py',
]

model = dict(backbone=dict(depth=20))

# Written by: tools/convert_cifar_resnet.py ../shared/data/cifar_resnet
load_from = 'work_dirs/pretrained/resnet20_cifar10.pth'
