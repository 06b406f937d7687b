# One ranking for all budgets; every line can be overridden by --cfg-options.
compression = dict(
    channel=dict(type='ChannelMutator', importance='l2', divisor=8, min_ratio=0.1))
# The paper's: 64 rankings to begin with, 400 in all, each scored at the tightest
# budget only.
search_cfg = dict(
    type='PolicySearchLoop',
    searcher=dict(
        type='LeGR',
        evaluations=400,
        population=64,
        tournament=16,
        mutation=0.1,
        reduction='sum'),
    targets=dict(macs=[0.8, 0.7, 0.6, 0.5, 0.4, 0.3]),
    storage='sqlite:///search.db')
