"""Datasets that mmcompress adds to OpenMMLab's."""

from importlib.util import find_spec

from .digits import DigitsOptions, make_digits

__all__ = ['DigitsOptions', 'make_digits']

if find_spec('mmpretrain') is not None:  # an environment may hold mmdet only
    from .cifar10_subset import Cifar10Subset

    __all__ += ['Cifar10Subset']
