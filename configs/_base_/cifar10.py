_base_ = [
    './models/cifar_resnet.py',
    './datasets/cifar10_subset.py',
    './schedules/cifar10_finetune.py',
    './cifar_runtime.py',
]
