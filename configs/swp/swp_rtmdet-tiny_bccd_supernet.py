_base_ = './swp_rtmdet-tiny_bccd.py'
load_from = None
train_cfg = dict(type='mmcompress.SupernetTrainLoop')
