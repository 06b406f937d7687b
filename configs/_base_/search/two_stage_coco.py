_base_ = './two_stage.py'

# Scored, calibrated and priced on disjoint training images; val2017 is left to
# report on. A detector's loss mixes the images of a batch: one at a time is priced.
search_cfg = dict(
    evaluator=dict(
        type='PolicyEvaluator',
        metric='coco/bbox_mAP',
        images=512,
        calibration_images=128,
        batch_size=8,
        dynamic_bn='paired'),
    prices=dict(type='GradientPrices', images=1024, batch_size=8))
