_base_ = './reconstruct.py'

compression = dict(channel=dict(divisor=4))
search_cfg = dict(
    searcher=dict(type='TwoStage', evaluations=40),
    evaluator=dict(
        type='PolicyEvaluator',
        metric='detections',
        images=32,
        calibration_images=96,
        batch_size=8,
        dynamic_bn='paired'),
    targets=dict(macs=[0.95, 0.9, 0.8, 0.7]))
