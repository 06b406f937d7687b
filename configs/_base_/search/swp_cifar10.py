_base_ = './swp.py'

# Nothing in the pipeline fixes the image size. Units of the residual stream cross the
# boundaries of stages and stay dense, so that stages add up.
compression = dict(
    input_shape=(3, 32, 32),
    channel=dict(
        divisor=1, dense=['backbone.conv1', 'backbone.layer[23].0.conv2']))
search_cfg = dict(
    evaluator=dict(
        type='PolicyEvaluator',
        metric='accuracy/top1',
        images=2000,
        calibration_images=1000,
        batch_size=250,
        dynamic_bn='recalibrate'))
