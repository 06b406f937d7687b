# Channels in the order of elimination, widths priced by what repair leaves, every
# candidate repaired. Every line can be overridden by --cfg-options.
compression = dict(
    channel=dict(
        type='ChannelMutator', importance='obs', divisor=8, min_ratio=0.1),
    reconstruct=dict())
search_cfg = dict(
    type='PolicySearchLoop',
    searcher=dict(type='TwoStage', evaluations=48),
    prices=dict(type='ReconstructionPrices', images=32),
    storage='sqlite:///search.db')
