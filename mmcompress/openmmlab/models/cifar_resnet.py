"""ResNets for CIFAR-10 with parameter-free (option A) shortcuts."""

from __future__ import annotations

from collections.abc import Mapping

from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmcompress.layers.pad import ChannelPad
from mmcompress.registry import MODELS


class BasicBlock(BaseModule):
    """Two 3x3 convs beside a shortcut without parameters.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the first conv and of the shortcut.
        norm_cfg (dict): Config of the norm layers.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, norm_cfg: dict
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = build_norm_layer(norm_cfg, out_channels)[1]
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = build_norm_layer(norm_cfg, out_channels)[1]
        self.shortcut = (
            nn.Identity() if stride == 1 and in_channels == out_channels
            else ChannelPad(in_channels, out_channels, stride))
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, H/s, W/s)``."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu2(out + self.shortcut(x))


@MODELS.register_module()
class CifarResNet(BaseModule):
    """ResNet of `Deep Residual Learning <https://arxiv.org/abs/1512.03385>`_, 4.2.

    Args:
        depth (int): 20, 32, 44, 56 or 110: six convs per block count, plus two.
        widths (tuple[int, int, int]): Channels of the three stages. Defaults to
            (16, 32, 64).
        norm_cfg (dict): Config of the norm layers. Defaults to ``type='BN'``.
        init_cfg (dict | list[dict], optional): Initialisation. Defaults to the
            Kaiming normal one.
    """

    def __init__(
        self,
        depth: int,
        widths: tuple[int, int, int] = (16, 32, 64),
        norm_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg or dict(
            type='Kaiming', layer=['Conv2d'], mode='fan_in', nonlinearity='relu'))
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f'depth must be 6n + 2 (20, 32, ... 110), got {depth}')
        norm_cfg = norm_cfg or dict(type='BN')
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = build_norm_layer(norm_cfg, widths[0])[1]
        self.relu = nn.ReLU(inplace=True)
        channels = widths[0]
        for stage, width in enumerate(widths, 1):
            layers = []
            for block in range(blocks):
                stride = 2 if stage > 1 and block == 0 else 1
                layers.append(BasicBlock(channels, width, stride, norm_cfg))
                channels = width
            self.add_module(f'layer{stage}', nn.Sequential(*layers))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Map ``(N, 3, 32, 32)`` to a tuple of one ``(N, widths[2], 8, 8)``."""
        x = self.relu(self.bn1(self.conv1(x)))
        return (self.layer3(self.layer2(self.layer1(x))),)


def convert_akamaster(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of akamaster/pytorch_resnet_cifar10 for mmpretrain.

    Args:
        state_dict (Mapping[str, Tensor]): Keys ``conv1``, ``layer1.0.conv1``, ...,
            ``linear``, with or without the ``module.`` of DataParallel.

    Returns:
        dict[str, Tensor]: Keys of an ``ImageClassifier`` made of a
        :class:`CifarResNet`, ``GlobalAveragePooling`` and a ``LinearClsHead``.
    """
    converted = {}
    for key, value in state_dict.items():
        key = key.removeprefix('module.')
        if key.startswith('linear.'):
            converted['head.fc.' + key.removeprefix('linear.')] = value
        else:
            converted['backbone.' + key] = value
    return converted
