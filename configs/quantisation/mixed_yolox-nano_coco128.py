_base_ = ['../yolox/yolox_nano_coco128.py', '../_base_/search/quantise.py']

compression = dict(
    quant=dict(
        bits=[4, 5, 6, 8],
        # The first outputs span -128 to 138, and most that matter are below 1: these
        # layers make most of the error of a network in 8 bits.
        skip=['first', 'backbone.stage1.0.*', 'backbone.stage2.0.depthwise_conv.*']))
search_cfg = dict(
    evaluator=dict(
        type='PolicyEvaluator',
        metric='coco/bbox_mAP',
        images=96,
        calibration_images=32,
        batch_size=8,
        dynamic_bn='paired'))
