# Widths and bits from one predictor; every line can be overridden by --cfg-options.
compression = dict(
    channel=dict(type='ChannelMutator', importance='l2', divisor=8, min_ratio=0.25),
    quant=dict(
        type='QuantMutator', bits=[4, 6, 8], keep8=['first', 'predictors'],
        observer='mse'))
search_cfg = dict(
    type='PolicySearchLoop',
    searcher=dict(
        type='SeerNet',
        evaluations=300,
        initial=0.3,
        verify=0.4,
        batch=16,
        acquisition='counterfactual',
        predictor=dict(type='GPPredictor')),
    # Shares of the float network's BOPs; all layers at 8 bits are 0.0625.
    targets=dict(bops=[0.04, 0.025, 0.015]),
    storage='sqlite:///search.db')
