"""Rules for the layers of mmcv, mmdet and mmpretrain.

Each module is imported only where its package is loaded.
"""
