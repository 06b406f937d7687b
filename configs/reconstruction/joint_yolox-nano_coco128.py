_base_ = './two_stage_yolox-nano_coco128.py'

# Widths and bits together, weights rounded together; every layer is quantised, and the
# search decides which activations stay in float.
compression = dict(
    quant=dict(
        type='QuantMutator', rounding='gptq', observer='output', keep8=[],
        weight_bits=[2, 3, 4, 5, 6, 8], activation_bits=[4, 5, 6, 8, 32]))
# Shares of the float network's BOPs; the last is that of W4A8.
search_cfg = dict(targets=dict(_delete_=True, bops=[0.047, 0.042, 0.0369]))
