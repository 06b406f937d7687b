_base_ = './swp.py'

custom_imports = dict(imports=['mmcompress'], allow_failed_imports=False)

# Scored and calibrated on disjoint training images; the validation set is left to
# report on.
search_cfg = dict(
    evaluator=dict(
        type='PolicyEvaluator',
        metric='coco/bbox_mAP',
        images=512,
        calibration_images=128,
        batch_size=8,
        dynamic_bn='recalibrate'))
