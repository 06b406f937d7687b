_base_ = './mask-rcnn_r18_digits.py'

load_from = 'work_dirs/mask-rcnn_r18_digits/epoch_8.pth'
custom_imports = dict(imports=['mmcompress'], allow_failed_imports=False)
compress_cfg = dict(epochs=2)
