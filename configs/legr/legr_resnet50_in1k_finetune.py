# tools/train.py THIS --policy work_dirs/legr_resnet50_in1k/policies/macs_0.5.json
_base_ = 'mmpretrain::resnet/resnet50_8xb32_in1k.py'
custom_imports = dict(imports=['mmcompress'], allow_failed_imports=False)
load_from = 'https://download.openmmlab.com/mmclassification/v0/resnet/resnet50_8xb32_in1k_20210831-ea4938fc.pth'

# A tenth of the rate that the network was trained with, for 60 epochs.
optim_wrapper = dict(
    optimizer=dict(
        type='SGD', lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4,
        _delete_=True))
param_scheduler = dict(
    type='CosineAnnealingLR', T_max=60, by_epoch=True, convert_to_iter_based=True,
    _delete_=True)
train_cfg = dict(max_epochs=60)
