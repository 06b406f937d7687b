# A detector of the model zoo on a dataset of one's own in COCO's format.
_base_ = 'mmdet::yolox/yolox_nano_8xb8-300e_coco.py'
load_from = '{{$DATA_ROOT:../shared/data}}/yolox_nano/yolox_nano_coco_mmdet.pth'

root = '{{$DATA_ROOT:../shared/data}}/bccd/'
mine = dict(data_root=root, data_prefix=dict(img='images/'),
            metainfo=dict(classes=('Platelets', 'RBC', 'WBC')))
read = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
        dict(type='Resize', scale=(320, 240), keep_ratio=True)]
flipped = [*read, dict(type='RandomFlip', prob=0.5), dict(type='PackDetInputs')]
seen = [*read, dict(type='PackDetInputs', meta_keys=(
    'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
train_dataloader = dict(batch_size=8, dataset=dict(
    _delete_=True, type='CocoDataset', ann_file='annotations/train.json',
    pipeline=flipped, **mine))
val_dataloader = dict(dataset=dict(
    ann_file='annotations/val.json', pipeline=seen, **mine))
test_dataloader = dict(dataset=dict(
    ann_file='annotations/test.json', pipeline=seen, **mine))
val_evaluator = dict(ann_file=root + 'annotations/val.json')
test_evaluator = dict(ann_file=root + 'annotations/test.json')
model = dict(bbox_head=dict(num_classes=3),
             data_preprocessor=dict(batch_augments=None))

# Few images, all alike: no mosaics, no average of weights.
train_cfg = dict(max_epochs=40, val_interval=5, dynamic_intervals=None)
optim_wrapper = dict(optimizer=dict(
    _delete_=True, type='AdamW', lr=1e-3, weight_decay=0.05))
param_scheduler = [
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)]
custom_hooks = []
randomness = dict(seed=0)
