_base_ = ['../cifar/resnet56_cifar10.py', '../_base_/search/swp_cifar10.py']

# The last checkpoint of: tools/train.py configs/swp/swp_resnet56_cifar10_supernet.py
load_from = 'work_dirs/swp_resnet56_cifar10_supernet/epoch_200.pth'

# How a network that was found is trained: from scratch, or from inherited weights.
train_cfg = dict(max_epochs=200, val_interval=10)
optim_wrapper = dict(optimizer=dict(lr=0.1, weight_decay=5e-4))
