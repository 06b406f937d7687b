_base_ = './faster-rcnn_r18_bccd.py'

load_from = 'work_dirs/faster-rcnn_r18_bccd/epoch_12.pth'  # see README.md
custom_imports = dict(imports=['mmcompress'], allow_failed_imports=False)
compress_cfg = dict(epochs=4)
