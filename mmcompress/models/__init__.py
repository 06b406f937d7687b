"""Models that mmcompress adds to OpenMMLab's."""

from .cifar_resnet import CifarResNet, convert_akamaster

__all__ = ['CifarResNet', 'convert_akamaster']
