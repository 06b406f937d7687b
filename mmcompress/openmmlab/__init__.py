"""The wing for mmengine, mmcv, mmdet and mmpretrain.

The registries import its rooms when a config asks for them; nothing outside it may
import them.
"""
