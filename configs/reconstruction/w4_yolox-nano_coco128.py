_base_ = '../quantisation/mixed_two-stage_yolox-nano_coco128.py'

# The same search with weights rounded together, which makes few bits cheaper.
compression = dict(
    quant=dict(
        rounding='gptq', observer='output', keep8=[], weight_bits=[2, 3, 4, 5, 6, 8]))
