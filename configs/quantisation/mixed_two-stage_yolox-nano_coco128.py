_base_ = './mixed_yolox-nano_coco128.py'

# The search decides which activations stay in float, where they cost most; it prices
# and scores by how far the detections move, which needs no labels.
compression = dict(
    quant=dict(
        skip=[], weight_bits=[4, 5, 6, 8], activation_bits=[4, 5, 6, 8, 32]))
search_cfg = dict(
    searcher=dict(_delete_=True, type='TwoStage', evaluations=120),
    evaluator=dict(metric='detections', images=80),
    prices=dict(
        type='MeasuredPrices', images=16, dynamic_bn='batch', measure='detections'),
    # Shares of the float network's BOPs: those of uniform W6A8, W5A8 and W4A8.
    targets=dict(bops=[0.0497, 0.0433, 0.0369]))
