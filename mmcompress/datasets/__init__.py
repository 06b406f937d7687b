"""Datasets that mmcompress adds to OpenMMLab's."""

from importlib.util import find_spec

__all__ = []

if find_spec('mmpretrain') is not None:  # an environment may hold mmdet only
    from .cifar10_subset import Cifar10Subset

    __all__ += ['Cifar10Subset']
