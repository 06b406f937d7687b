_base_ = 'mmpretrain::_base_/default_runtime.py'

custom_imports = dict(imports=['mmcompress'], allow_failed_imports=False)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=1, max_keep_ckpts=1))
randomness = dict(seed=0)
