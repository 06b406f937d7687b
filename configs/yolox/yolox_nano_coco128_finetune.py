_base_ = './yolox_nano_coco128.py'

# A short recovery of a pruned network on 128 images: plain flips at the test size.
# Mosaic needs hundreds of epochs to pay off, and an average of weights (EMA) over so
# few iterations would still be the pruned network.
img_scale = (416, 416)
train_dataset = dict(
    _delete_=True,
    type='CocoDataset',
    data_root=_base_.data_root,
    ann_file='annotations/instances_train128.json',
    data_prefix=dict(img='train2017/'),
    filter_cfg=dict(filter_empty_gt=False, min_size=32),
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='RandomFlip', prob=0.5),
        dict(type='Resize', scale=img_scale, keep_ratio=True),
        dict(type='Pad', pad_to_square=True, pad_val=dict(img=(114, 114, 114))),
        dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False),
        dict(type='PackDetInputs'),
    ])
train_dataloader = dict(batch_size=8, dataset=train_dataset)

# Statistics of the last dozen batches: the usual .03 would remember the pruned
# network's first ones.
norm_cfg = dict(type='BN', momentum=0.1, eps=0.001)
model = dict(
    data_preprocessor=dict(batch_augments=None),
    backbone=dict(norm_cfg=norm_cfg),
    neck=dict(norm_cfg=norm_cfg),
    bbox_head=dict(norm_cfg=norm_cfg))

train_cfg = dict(max_epochs=2, val_interval=1, dynamic_intervals=None)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, weight_decay=0.0))
param_scheduler = [
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)
]
custom_hooks = []
