_base_ = './reconstruct.py'

# Repaired on 96 unlabelled training images, scored on the 32 others by how far boxes
# and scores are from those of the dense network.
compression = dict(channel=dict(divisor=4))
search_cfg = dict(
    searcher=dict(type='TwoStage', evaluations=40),
    prices=dict(images=16),
    evaluator=dict(
        type='PolicyEvaluator',
        metric='detections',
        images=32,
        calibration_images=96,
        batch_size=8,
        dynamic_bn='paired'),
    targets=dict(macs=[0.95, 0.9, 0.8, 0.7]))
