"""mmcompress: the compression toolkit for OpenMMLab."""

from . import _torchvision  # noqa: F401  isort: skip  (must precede mmdet, mmpretrain)
from . import registry  # noqa: F401  (makes the scope 'mmcompress' known)

__version__ = '0.1.0'
