_base_ = './quantise_cifar10.py'

# Uniform settings, without a search: all layers at 8 bits, all at 6, ...
compression = dict(quant=dict(bits=[4, 6, 8]))
search_cfg = dict(
    searcher=dict(type='Uniform', evaluations=3),
    targets=dict(bops=[0.0625, 0.0325, 0.017]))
