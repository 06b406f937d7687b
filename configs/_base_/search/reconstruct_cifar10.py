_base_ = './reconstruct.py'

# Single channels may go. Nothing in the pipeline fixes the image size.
compression = dict(input_shape=(3, 32, 32), channel=dict(divisor=1))
# Repaired on 500 unlabelled training images, scored by the distance from the dense
# network on 500 others.
search_cfg = dict(
    evaluator=dict(
        type='PolicyEvaluator',
        metric='distance',
        images=500,
        calibration_images=500,
        batch_size=250,
        dynamic_bn='paired'),
    targets=dict(macs=[0.75, 0.5, 0.35]))
