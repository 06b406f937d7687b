_base_ = [
    '../yolox/yolox_nano_coco128.py', '../_base_/search/prune_yolox-nano_coco128.py'
]

# 128 training images: 56 to score on, 24 to calibrate with, 48 to price with.
search_cfg = dict(
    searcher=dict(type='TwoStage', evaluations=40),
    evaluator=dict(images=56, calibration_images=24),
    prices=dict(type='GradientPrices', images=48, batch_size=8))
