_base_ = 'mmdet::yolox/yolox_nano_8xb8-300e_coco.py'

custom_imports = dict(imports=['mmcompress'], allow_failed_imports=False)
load_from = '{{$DATA_ROOT:../shared/data}}/yolox_nano/yolox_nano_coco_mmdet.pth'

# Calibrate, search and fine-tune on 128 images of train2017, report on 128 of
# val2017.
data_root = '{{$DATA_ROOT:../shared/data}}/coco128/'

train_dataloader = dict(
    num_workers=2,
    dataset=dict(
        dataset=dict(
            data_root=data_root, ann_file='annotations/instances_train128.json')))
val_dataloader = dict(
    num_workers=2,
    dataset=dict(
        data_root=data_root, ann_file='annotations/instances_val128.json'))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val128.json')
test_evaluator = val_evaluator
randomness = dict(seed=0)
