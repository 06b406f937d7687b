# tools/train.py THIS --policy work_dirs/legr_retinanet_r50_coco/policies/macs_0.5.json
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['mmcompress'], allow_failed_imports=False)
load_from = 'https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_r50_fpn_1x_coco/retinanet_r50_fpn_1x_coco_20200130-c2398f9e.pth'

# The 1x schedule once more, at half its rate. Pruned layers of the frozen stages
# must learn too.
model = dict(backbone=dict(frozen_stages=-1))
optim_wrapper = dict(optimizer=dict(lr=0.005))
