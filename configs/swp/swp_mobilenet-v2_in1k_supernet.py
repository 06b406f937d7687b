_base_ = './swp_mobilenet-v2_in1k.py'
load_from = None
train_cfg = dict(
    _delete_=True, type='mmcompress.SupernetTrainLoop', max_epochs=300,
    val_interval=10)
