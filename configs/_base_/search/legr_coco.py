_base_ = './legr.py'

custom_imports = dict(imports=['mmcompress'], allow_failed_imports=False)

# Scored, calibrated and (with finetune.steps > 0) trained on disjoint training
# images; val2017 is left to report on.
search_cfg = dict(
    evaluator=dict(
        type='PolicyEvaluator',
        metric='coco/bbox_mAP',
        images=512,
        calibration_images=128,
        batch_size=8,
        dynamic_bn='paired',
        finetune=dict(steps=50, lr=0.002, batch_size=8)))
