_base_ = ['../yolox/yolox_nano_coco128.py', '../_base_/search/quantise.py']

compression = dict(quant=dict(bits=[4, 5, 6, 8]))
search_cfg = dict(
    evaluator=dict(
        type='PolicyEvaluator',
        metric='coco/bbox_mAP',
        images=96,
        calibration_images=32,
        batch_size=8,
        dynamic_bn='recalibrate'))
