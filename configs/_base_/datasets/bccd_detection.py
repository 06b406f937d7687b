# Blood cells at 320 x 240; DATA_ROOT names the folder that holds bccd/.
data_root = '{{$DATA_ROOT:../shared/data}}/bccd/'
metainfo = dict(classes=('Platelets', 'RBC', 'WBC'))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(320, 240), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(320, 240), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]

dataset = dict(
    type='CocoDataset',
    data_root=data_root,
    metainfo=metainfo,
    data_prefix=dict(img='images/'))
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        ann_file='annotations/train.json', pipeline=train_pipeline, **dataset))
val_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        ann_file='annotations/val.json', test_mode=True, pipeline=test_pipeline,
        **dataset))
test_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        ann_file='annotations/test.json', test_mode=True, pipeline=test_pipeline,
        **dataset))

val_evaluator = dict(
    type='CocoMetric', metric='bbox', ann_file=data_root + 'annotations/val.json')
test_evaluator = dict(
    type='CocoMetric', metric='bbox', ann_file=data_root + 'annotations/test.json')
