# 5,085 training and 1,017 test images of CIFAR-10 with their original pixels.
data_root = '{{$DATA_ROOT:../shared/data}}/cifar10/lossless6102'

data_preprocessor = dict(
    num_classes=10,
    # ImageNet's statistics, which the pretrained networks were trained with.
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    # The batch files are RGB already.
    to_rgb=False)

train_pipeline = [
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    dataset=dict(
        type='mmcompress.Cifar10Subset',
        data_root=data_root,
        split='train',
        pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    batch_size=128,
    num_workers=0,
    dataset=dict(
        type='mmcompress.Cifar10Subset',
        data_root=data_root,
        split='test',
        pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader

val_evaluator = dict(type='Accuracy', topk=(1, ))
test_evaluator = val_evaluator
