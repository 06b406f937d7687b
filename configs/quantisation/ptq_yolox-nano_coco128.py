_base_ = './mixed_yolox-nano_coco128.py'

# Uniform settings, without a search: all layers at 8 bits, all at 6, ...
search_cfg = dict(
    searcher=dict(type='Uniform', evaluations=3),
    targets=dict(bops=[0.0625, 0.0390625]))
