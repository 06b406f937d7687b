"""Models that mmcompress adds to OpenMMLab's."""

from .cifar_resnet import CifarResNet, convert_akamaster
from .compressed import Compressed
from .distilled import Distilled

__all__ = ['CifarResNet', 'Compressed', 'Distilled', 'convert_akamaster']
