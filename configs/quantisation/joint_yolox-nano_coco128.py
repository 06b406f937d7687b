_base_ = './mixed_yolox-nano_coco128.py'

# Widths and bits in one search.
compression = dict(
    channel=dict(
        type='ChannelMutator', importance='taylor', divisor=4, min_ratio=0.5))
