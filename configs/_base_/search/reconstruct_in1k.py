_base_ = './reconstruct.py'

custom_imports = dict(imports=['mmcompress'], allow_failed_imports=False)

# Repaired and scored on disjoint training images; val is left to report on.
search_cfg = dict(
    evaluator=dict(
        type='PolicyEvaluator',
        metric='accuracy/top1',
        images=5000,
        calibration_images=1024,
        batch_size=128,
        dynamic_bn='paired'),
    targets=dict(macs=[0.75, 0.5, 0.35]))
