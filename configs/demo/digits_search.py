_base_ = './digits_detector.py'

load_from = 'work_dirs/digits_detector/epoch_12.pth'

compression = dict(
    channel=dict(
        type='ChannelMutator', importance='obs', divisor=4, min_ratio=0.1))
search_cfg = dict(
    type='PolicySearchLoop',
    searcher=dict(type='TwoStage', evaluations=24),
    prices=dict(type='ReconstructionPrices', images=32),
    evaluator=dict(
        type='PolicyEvaluator',
        metric='coco/bbox_mAP',
        images=128,
        calibration_images=64,
        batch_size=32,
        dynamic_bn='paired',
        # Digits that the detector was not trained on and is not reported on.
        dataset=dict(
            type='CocoDataset',
            data_root={{_base_.data_root}},
            metainfo={{_base_.metainfo}},
            ann_file='annotations/calibration.json',
            data_prefix=dict(img='calibration/'),
            test_mode=True,
            pipeline={{_base_.test_pipeline}})),
    targets=dict(macs=[0.9, 0.8, 0.65, 0.5]),
    storage='sqlite:///search.db')

# Fine-tuning a policy: tools/train.py configs/demo/digits_search.py --policy P
max_epochs = 4
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        convert_to_iter_based=True,
        T_max=max_epochs,
        eta_min=2e-5),
]

# The same for tools/compress.py, which derives a schedule from epochs and rate.
compress_cfg = dict(epochs=4, lr=2e-3)
