_base_ = './swp_resnet50_in1k.py'
load_from = None
train_cfg = dict(
    _delete_=True, type='mmcompress.SupernetTrainLoop', max_epochs=100,
    val_interval=10)
