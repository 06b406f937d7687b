# tools/train.py THIS --policy work_dirs/legr_resnet56_cifar10/policies/macs_0.5.json
_base_ = [
    '../_base_/models/cifar_resnet.py',
    '../_base_/datasets/cifar10_subset.py',
    '../_base_/schedules/cifar10_legr.py',
    '../_base_/cifar_runtime.py',
]

model = dict(backbone=dict(depth=56))
load_from = 'work_dirs/pretrained/resnet56_cifar10.pth'
