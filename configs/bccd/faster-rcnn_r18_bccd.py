# A two-stage detector that is trained here, from random weights.
_base_ = [
    'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', '../_base_/datasets/bccd.py']

model = dict(
    backbone=dict(depth=18, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=64),
    rpn_head=dict(
        in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=3)),
    train_cfg=dict(rcnn=dict(sampler=dict(num=128))))

train_dataloader = _base_.bccd_half_train
val_dataloader = _base_.bccd_half_val
test_dataloader = _base_.bccd_half_test
val_evaluator = _base_.bccd_val_evaluator
test_evaluator = _base_.bccd_test_evaluator

train_cfg = dict(val_interval=4)  # of 12 epochs
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=10))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True, T_max=12),
]
randomness = dict(seed=0)
