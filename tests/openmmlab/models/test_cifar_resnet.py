"""CifarResNet has the paper's sizes and reads akamaster's checkpoints."""

import pytest
import torch
from mmpretrain.models import ImageClassifier

from mmcompress.layers.pad import ChannelPad
from mmcompress.openmmlab.models import CifarResNet, convert_akamaster


def classifier(depth: int) -> ImageClassifier:
    """A CIFAR-10 classifier on the CPU, in eval mode."""
    return ImageClassifier(
        backbone=dict(type='mmcompress.CifarResNet', depth=depth),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=64)).eval()


# Counts of the pretrained files' README, equal to akamaster's table.
@pytest.mark.parametrize(
    'depth, parameters', [(20, 269_722), (32, 464_154), (56, 853_018)])
def test_parameters(depth, parameters):
    assert sum(p.numel() for p in classifier(depth).parameters()) == parameters


def test_shapes_and_shortcuts():
    model = CifarResNet(20, widths=(4, 8, 16))
    out, = model(torch.randn(2, 3, 32, 32))
    assert out.shape == (2, 16, 8, 8)
    pads = [m for m in model.modules() if isinstance(m, ChannelPad)]
    assert [(p.in_channels, p.out_channels, p.stride) for p in pads] == [
        (4, 8, 2), (8, 16, 2)]


@pytest.mark.parametrize('depth', [2, 18, 49])
def test_depth_must_fit(depth):
    with pytest.raises(ValueError, match='depth must be 6n'):
        CifarResNet(depth)


def test_conversion_is_a_rename():
    state = {'module.conv1.weight': torch.zeros(1), 'layer1.0.bn2.bias': torch.ones(1),
             'linear.weight': torch.ones(2)}
    assert list(convert_akamaster(state)) == [
        'backbone.conv1.weight', 'backbone.layer1.0.bn2.bias', 'head.fc.weight']


def test_pretrained_keys_match(shared_data):
    state = torch.load(
        shared_data / 'cifar_resnet/resnet20_cifar10.pth', weights_only=True)
    classifier(20).load_state_dict(convert_akamaster(state))
