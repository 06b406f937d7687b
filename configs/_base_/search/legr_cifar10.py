_base_ = './legr.py'

# The paper's settings for CIFAR-10. It prunes single channels. Nothing in the
# pipeline fixes the image size.
compression = dict(input_shape=(3, 32, 32), channel=dict(divisor=1))
# Scored without training, as in the paper for CIFAR-10, but with batch-norm
# statistics of the pruned network. A tenth of the training set is held out for it.
search_cfg = dict(
    evaluator=dict(
        type='PolicyEvaluator',
        metric='accuracy/top1',
        images=508,
        calibration_images=254,
        batch_size=254,
        dynamic_bn='recalibrate',
        finetune=dict(
            steps=0, lr=0.01, momentum=0.9, weight_decay=5e-4, batch_size=128)),
    targets=dict(macs=[0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]))
