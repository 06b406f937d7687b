_base_ = './quantise.py'

compression = dict(
    # Nothing in the pipeline fixes the image size.
    input_shape=(3, 32, 32),
    quant=dict(bits=[2, 3, 4, 5, 6, 8]))
search_cfg = dict(
    evaluator=dict(
        type='PolicyEvaluator',
        metric='accuracy/top1',
        images=2000,
        calibration_images=1000,
        batch_size=250,
        dynamic_bn='paired'),
    # About the BOPs of W4A8 and of W4A4.
    targets=dict(bops=[0.0325, 0.017]))
