# Prices of every width and bit width once, then a knapsack for every budget. Leave
# out channel or quant to search bits or widths alone.
custom_imports = dict(imports=['mmcompress'], allow_failed_imports=False)
compression = dict(
    channel=dict(type='ChannelMutator', importance='l2', divisor=8, min_ratio=0.5),
    quant=dict(
        type='QuantMutator', bits=[4, 6, 8], keep8=['first', 'predictors'],
        observer='mse'))
search_cfg = dict(
    type='PolicySearchLoop',
    searcher=dict(type='TwoStage', evaluations=60),
    # Shares of the float network's BOPs: 48, 32 and 24 of 1024.
    targets=dict(bops=[0.046875, 0.03125, 0.0234375]),
    storage='sqlite:///search.db')
