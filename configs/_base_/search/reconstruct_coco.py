_base_ = './reconstruct.py'

custom_imports = dict(imports=['mmcompress'], allow_failed_imports=False)

# Repaired and scored on disjoint training images; val2017 is left to report on.
search_cfg = dict(
    evaluator=dict(
        type='PolicyEvaluator',
        metric='coco/bbox_mAP',
        images=512,
        calibration_images=64,
        batch_size=8,
        dynamic_bn='paired'),
    targets=dict(macs=[0.9, 0.75, 0.5]))
