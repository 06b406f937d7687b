_base_ = './joint_yolox-nano_coco128.py'

# The same budgets by bits alone.
compression = dict(_delete_=True, quant=_base_.compression.quant)
