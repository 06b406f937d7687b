# Blood cells: 205 images to train on, 87 to validate, 72 to test. Named apart from
# what a model's config calls them: it takes them over, e.g.
# train_dataloader = _base_.bccd_train, in place of its own.
bccd_root = '{{$DATA_ROOT:../shared/data}}/bccd/'
bccd_classes = ('Platelets', 'RBC', 'WBC')
bccd_scale = (640, 480)

bccd_train = dict(
    _delete_=True,
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        data_root=bccd_root,
        metainfo=dict(classes=bccd_classes),
        ann_file='annotations/train.json',
        data_prefix=dict(img='images/'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='RandomFlip', prob=0.5),
            dict(type='Resize', scale=bccd_scale, keep_ratio=True),
            dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False),
            dict(type='PackDetInputs'),
        ]))
bccd_test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=bccd_scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                   'scale_factor')),
]
bccd_val = dict(
    _delete_=True,
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        data_root=bccd_root,
        metainfo=dict(classes=bccd_classes),
        ann_file='annotations/val.json',
        data_prefix=dict(img='images/'),
        test_mode=True,
        pipeline=bccd_test_pipeline))
bccd_test = dict(bccd_val, dataset=dict(
    bccd_val['dataset'], ann_file='annotations/test.json'))
bccd_val_evaluator = dict(
    _delete_=True, type='CocoMetric', metric='bbox',
    ann_file=bccd_root + 'annotations/val.json')
bccd_test_evaluator = dict(
    bccd_val_evaluator, ann_file=bccd_root + 'annotations/test.json')


def _halved(loader):
    """A dataloader of images of half the height and width, to train on a CPU."""
    steps = [dict(step, scale=(320, 240)) if step['type'] == 'Resize' else step
             for step in loader['dataset']['pipeline']]
    return dict(loader, dataset=dict(loader['dataset'], pipeline=steps))


bccd_half_train = _halved(bccd_train)
bccd_half_val = _halved(bccd_val)
bccd_half_test = _halved(bccd_test)
