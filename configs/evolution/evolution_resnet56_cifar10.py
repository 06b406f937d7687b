_base_ = ['../cifar/resnet56_cifar10.py', '../_base_/search/evolution.py']

# Nothing in the pipeline fixes the image size.
compression = dict(input_shape=(3, 32, 32), channel=dict(divisor=4))
search_cfg = dict(
    evaluator=dict(
        type='PolicyEvaluator',
        metric='accuracy/top1',
        images=2000,
        calibration_images=1000,
        batch_size=250,
        dynamic_bn='recalibrate'),
    targets=dict(macs=[0.75, 0.65, 0.5, 0.35]))
