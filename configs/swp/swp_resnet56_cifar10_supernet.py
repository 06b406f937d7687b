_base_ = './swp_resnet56_cifar10.py'

load_from = None
train_cfg = dict(
    _delete_=True, type='mmcompress.SupernetTrainLoop', max_epochs=200,
    val_interval=10)
custom_hooks = [dict(type='mmcompress.EpochSeedHook')]
