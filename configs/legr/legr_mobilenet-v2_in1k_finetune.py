# tools/train.py THIS --policy work_dirs/legr_mobilenet-v2_in1k/policies/macs_0.5.json
_base_ = 'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py'
custom_imports = dict(imports=['mmcompress'], allow_failed_imports=False)
load_from = 'https://download.openmmlab.com/mmclassification/v0/mobilenet_v2/mobilenet_v2_batch256_imagenet_20200708-3b2dc3af.pth'

optim_wrapper = dict(
    optimizer=dict(
        type='SGD', lr=0.01, momentum=0.9, nesterov=True, weight_decay=4e-5,
        _delete_=True))
param_scheduler = dict(
    type='CosineAnnealingLR', T_max=60, by_epoch=True, convert_to_iter_based=True,
    _delete_=True)
train_cfg = dict(max_epochs=60)
