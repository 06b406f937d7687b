_base_ = './evolution.py'

# Scored and calibrated on disjoint training images; val2017 is left to report on.
search_cfg = dict(
    evaluator=dict(
        type='PolicyEvaluator',
        metric='coco/bbox_mAP',
        images=512,
        calibration_images=128,
        batch_size=8,
        dynamic_bn='paired'))
