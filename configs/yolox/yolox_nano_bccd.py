_base_ = ['mmdet::yolox/yolox_nano_8xb8-300e_coco.py', '../_base_/datasets/bccd.py']

# All but the classifiers, which learn three classes instead of 80.
load_from = '{{$DATA_ROOT:../shared/data}}/yolox_nano/yolox_nano_coco_mmdet.pth'

train_dataloader = _base_.bccd_train
val_dataloader = _base_.bccd_val
test_dataloader = _base_.bccd_test
val_evaluator = _base_.bccd_val_evaluator
test_evaluator = _base_.bccd_test_evaluator

norm_cfg = dict(type='BN', momentum=0.1, eps=0.001)
model = dict(
    data_preprocessor=dict(batch_augments=None),
    backbone=dict(norm_cfg=norm_cfg),
    neck=dict(norm_cfg=norm_cfg),
    bbox_head=dict(num_classes=3, norm_cfg=norm_cfg))

# Small images and few of them: no mosaic, no average of weights.
train_cfg = dict(
    type='EpochBasedTrainLoop', max_epochs=50, val_interval=10,
    dynamic_intervals=None)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-3, weight_decay=0.05))
param_scheduler = [
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)
]
custom_hooks = []
randomness = dict(seed=0)
