# tools/train.py THIS --policy work_dirs/legr_yolox-nano_coco/policies/macs_0.5.json
_base_ = 'mmdet::yolox/yolox_nano_8xb8-300e_coco.py'
custom_imports = dict(imports=['mmcompress'], allow_failed_imports=False)
load_from = '{{$DATA_ROOT:../shared/data}}/yolox_nano/yolox_nano_coco_mmdet.pth'

# A tenth of the schedule and of the rate; the last epochs without mosaic, as in the
# original.
max_epochs, num_last_epochs, base_lr = 30, 5, 0.001
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
optim_wrapper = dict(optimizer=dict(lr=base_lr))
param_scheduler = [
    dict(
        type='CosineAnnealingLR', eta_min=base_lr * 0.05, T_max=max_epochs,
        by_epoch=True, convert_to_iter_based=True)
]
custom_hooks = [
    dict(type='YOLOXModeSwitchHook', num_last_epochs=num_last_epochs, priority=48),
    dict(type='SyncNormHook', priority=48),
    dict(
        type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.0001,
        update_buffers=True, priority=49)
]
