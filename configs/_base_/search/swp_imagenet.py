_base_ = './swp.py'

custom_imports = dict(imports=['mmcompress'], allow_failed_imports=False)

# Scored and calibrated on disjoint training images; val is left to report on.
compression = dict(channel=dict(step=0.03))
search_cfg = dict(
    evaluator=dict(
        type='PolicyEvaluator',
        metric='accuracy/top1',
        images=5000,
        calibration_images=1024,
        batch_size=128,
        dynamic_bn='recalibrate'))
