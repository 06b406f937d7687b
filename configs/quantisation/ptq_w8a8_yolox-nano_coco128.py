_base_ = './ptq_yolox-nano_coco128.py'

# The file for ONNX Runtime: 8 bits where they cost little and integers are fast, the
# early layers and the head in float; see docs/measurements/export.md.
compression = dict(
    quant=dict(
        bits=[8],
        skip=['backbone.stem.*', 'backbone.stage1.*', 'backbone.stage2.*',
              'backbone.stage3.0.*', 'bbox_head.*']))
search_cfg = dict(
    searcher=dict(evaluations=1),
    # One policy: nothing to choose, so most images set ranges.
    evaluator=dict(images=16, calibration_images=112, dynamic_bn='off'),
    targets=dict(bops=[0.99]))
