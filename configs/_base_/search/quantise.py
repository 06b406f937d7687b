# Every layer takes 4, 6 or 8 bits for its weight and for its input; the first layer
# and the predictors stay at 8.
compression = dict(
    quant=dict(
        type='QuantMutator', bits=[4, 6, 8], keep8=['first', 'predictors'],
        observer='mse'))
search_cfg = dict(
    type='PolicySearchLoop',
    searcher=dict(type='Evolution', evaluations=300),
    # Shares of the float network's BOPs: 48, 40 and 32 of 1024.
    targets=dict(bops=[0.046875, 0.0390625, 0.03125]),
    storage='sqlite:///search.db')
