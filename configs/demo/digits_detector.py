_base_ = [
    'mmdet::_base_/default_runtime.py',
    '../_base_/datasets/digits_detection.py',
]

custom_imports = dict(imports=['mmcompress'], allow_failed_imports=False)

norm_cfg = dict(type='BN', momentum=0.03, eps=0.001)
model = dict(
    type='YOLOX',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[127.5, 127.5, 127.5],
        std=[60.0, 60.0, 60.0],
        pad_size_divisor=16),
    backbone=dict(
        type='CSPDarknet',
        # in, out, blocks, shortcut, spatial pyramid pooling: strides 4, 8, 16
        arch_ovewrite=[
            [16, 32, 1, True, False],
            [32, 64, 1, True, False],
            [64, 128, 1, False, True],
        ],
        out_indices=(2, 3),
        norm_cfg=norm_cfg),
    neck=dict(
        type='YOLOXPAFPN',
        in_channels=[64, 128],
        out_channels=64,
        num_csp_blocks=1,
        norm_cfg=norm_cfg),
    bbox_head=dict(
        type='YOLOXHead',
        num_classes=10,
        in_channels=64,
        feat_channels=64,
        stacked_convs=1,
        strides=(8, 16),
        norm_cfg=norm_cfg),
    train_cfg=dict(assigner=dict(type='SimOTAAssigner', center_radius=2.5)),
    test_cfg=dict(score_thr=0.01, nms=dict(type='nms', iou_threshold=0.65)))

max_epochs = 12
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=6)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=4e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        convert_to_iter_based=True,
        T_max=max_epochs,
        eta_min=2e-5),
]

default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=1, max_keep_ckpts=2))
randomness = dict(seed=0)
