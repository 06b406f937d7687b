"""mmcompress: the compression toolkit for OpenMMLab."""

from . import _torchvision  # noqa: F401  isort: skip  (must precede mmdet, mmpretrain)
from . import registry  # noqa: F401  (makes the scope 'mmcompress' known)

from mmengine.config.utils import MODULE2PACKAGE  # isort: skip

# Lets a config inherit through _base_ = 'mmcompress::...'.
MODULE2PACKAGE.setdefault('mmcompress', 'mmcompress.registry')

__version__ = '0.1.0'
