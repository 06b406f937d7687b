_base_ = ['../yolox/yolox_nano_bccd.py', '../_base_/search/swp_coco.py']

# The last checkpoint of the supernet's training.
load_from = 'work_dirs/swp_yolox-nano_bccd_supernet/epoch_50.pth'
compression = dict(input_shape=(3, 480, 640), channel=dict(divisor=4))
search_cfg = dict(
    searcher=dict(evaluations=1280),
    evaluator=dict(images=100, calibration_images=64), targets=dict(macs=[0.5]))
