_base_ = ['../cifar/resnet20_cifar10.py', '../_base_/search/swp.py']

# The last checkpoint of: tools/train.py configs/swp/swp_resnet20_cifar10_supernet.py
load_from = 'work_dirs/swp_resnet20_cifar10_supernet/epoch_200.pth'

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

# How a network that was found is trained: from scratch, or from inherited weights.
train_cfg = dict(max_epochs=200, val_interval=10)
optim_wrapper = dict(optimizer=dict(lr=0.1, weight_decay=5e-4))
