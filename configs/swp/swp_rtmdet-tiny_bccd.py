_base_ = [
    'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py', '../_base_/datasets/bccd.py',
    '../_base_/search/swp_coco.py'
]
# The last checkpoint of the supernet's training.
load_from = 'work_dirs/swp_rtmdet-tiny_bccd_supernet/epoch_100.pth'

train_dataloader = _base_.bccd_train
val_dataloader = _base_.bccd_val
test_dataloader = _base_.bccd_test
val_evaluator = _base_.bccd_val_evaluator
test_evaluator = _base_.bccd_test_evaluator
model = dict(bbox_head=dict(num_classes=3))

train_cfg = dict(max_epochs=100, val_interval=10, dynamic_intervals=None)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)
]
# No change of the pipeline, and no average of weights over so few iterations.
custom_hooks = []
randomness = dict(seed=0)

compression = dict(input_shape=(3, 480, 640))
search_cfg = dict(
    searcher=dict(evaluations=1280),
    evaluator=dict(images=100, calibration_images=64), targets=dict(macs=[0.5]))
