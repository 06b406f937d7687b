_base_ = './swp_yolox-nano_coco.py'
load_from = None
train_cfg = dict(type='mmcompress.SupernetTrainLoop')
