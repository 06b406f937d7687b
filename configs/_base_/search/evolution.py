# One search for three budgets; every line can be overridden by --cfg-options.
custom_imports = dict(imports=['mmcompress'], allow_failed_imports=False)
compression = dict(
    channel=dict(type='ChannelMutator', importance='l2', divisor=8, min_ratio=0.1))
search_cfg = dict(
    type='PolicySearchLoop',
    searcher=dict(type='Evolution', evaluations=300),
    targets=dict(macs=[0.75, 0.5, 0.35]),
    storage='sqlite:///search.db')
