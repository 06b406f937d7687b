_base_ = './quantise_cifar10.py'

# Widths and bits in one search.
compression = dict(
    channel=dict(
        type='ChannelMutator', importance='l2', divisor=4, min_ratio=0.25))
