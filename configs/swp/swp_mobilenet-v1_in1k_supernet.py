_base_ = './swp_mobilenet-v1_in1k.py'
load_from = None
# The blocks of all resolutions are in one module of the wrapper.
net = 'backbone.timm_model'
train_cfg = dict(
    _delete_=True, type='mmcompress.SupernetTrainLoop', max_epochs=300,
    val_interval=10, stages=[
        dict(name='blocks.0', modules=[
            f'{net}.conv_stem', f'{net}.bn1', f'{net}.blocks.0']),
        f'{net}.blocks.1', f'{net}.blocks.2', f'{net}.blocks.3', f'{net}.blocks.4',
        dict(modules=['neck', 'head'])])
