# The supernet's channels keep the order they are trained in. Every line can be
# overridden by --cfg-options.
compression = dict(
    channel=dict(
        type='ChannelMutator', importance='index', divisor=8, min_ratio=0.1, step=0.1))
# 4 islands x 16 policies x 20 generations, for one budget after the other.
search_cfg = dict(
    type='PolicySearchLoop',
    searcher=dict(
        type='Islands', evaluations=2560, islands=4, population=16, top=16, every=5),
    targets=dict(macs=[0.5, 0.35]),
    storage='sqlite:///search.db')
