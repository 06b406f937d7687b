"""mmcompress: the compression toolkit for OpenMMLab."""

from . import _torchvision  # noqa: F401  (must precede mmdet and mmpretrain)

__version__ = '0.1.0'
