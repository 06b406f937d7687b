_base_ = './legr.py'

custom_imports = dict(imports=['mmcompress'], allow_failed_imports=False)

# Scored, calibrated and (with finetune.steps > 0) trained on disjoint training
# images; val is left to report on. The paper takes 200 steps here.
search_cfg = dict(
    evaluator=dict(
        type='PolicyEvaluator',
        metric='accuracy/top1',
        images=5000,
        calibration_images=1024,
        batch_size=128,
        dynamic_bn='paired',
        finetune=dict(steps=200, lr=0.01, batch_size=128)))
