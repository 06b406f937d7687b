_base_ = [
    '../_base_/models/cifar_resnet.py',
    '../_base_/datasets/cifar10_jpeg.py',
    '../_base_/schedules/cifar10_finetune.py',
    '../_base_/cifar_runtime.py',
]

model = dict(backbone=dict(depth=56))

# Trained on the original pixels.
load_from = 'work_dirs/pretrained/resnet56_cifar10.pth'
