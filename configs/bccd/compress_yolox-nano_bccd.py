_base_ = './yolox-nano_bccd.py'

load_from = 'work_dirs/yolox-nano_bccd/epoch_40.pth'  # see README.md
custom_imports = dict(imports=['mmcompress'], allow_failed_imports=False)
compress_cfg = dict(epochs=20, lr=1e-3)  # chosen on validation images
