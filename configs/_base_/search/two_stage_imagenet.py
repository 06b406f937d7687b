_base_ = './two_stage.py'

# Scored, calibrated and priced on disjoint training images; val is left to report on.
search_cfg = dict(
    evaluator=dict(
        type='PolicyEvaluator',
        metric='accuracy/top1',
        images=5000,
        calibration_images=1024,
        batch_size=128,
        dynamic_bn='paired'),
    prices=dict(type='GradientPrices', images=1024, batch_size=32))
