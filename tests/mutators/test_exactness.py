"""What follows from the channels that stay is removed without any change of outputs.

The networks that the method file lists: their units hold copies, which the order of
elimination removes first and the closed form replaces.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn
from torch.nn import functional as F

from mmcompress.data.images import Batch
from mmcompress.graph import trace, verify
from mmcompress.kinds import kind_of
from mmcompress.mutators import Calibration, JointMutator
from mmcompress.policy import Policy

SHAPE = (3, 16, 16)


def copy_half(layer: nn.Module) -> None:
    """Make the second half of a layer's outputs twice the first half."""
    for tensor in (layer.weight, layer.bias):
        half = len(tensor) // 2
        tensor.data[half:] = 2.0 * tensor.data[:half]


class Concatenated(nn.Module):
    """The second branch computes what the first one does."""

    unit, width = 'right', 4

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 8, 3, padding=1)
        self.right = nn.Conv2d(3, 8, 3, padding=1)
        self.merge = nn.Conv2d(16, 5, 3, padding=1)
        for ours, theirs in ((self.right.weight, self.left.weight),
                             (self.right.bias, self.left.bias)):
            ours.data[4:] = theirs.data[:4]

    def forward(self, x: Tensor) -> Tensor:
        return self.merge(F.relu(torch.cat([self.left(x), self.right(x)], 1)))


class Flattened(nn.Module):
    """Every channel feeds four columns of the linear layer."""

    unit, width = 'first', 4

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Linear(32, 5)
        copy_half(self.first)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        return self.last(F.adaptive_avg_pool2d(x, 2).flatten(1))


class Tokens(nn.Module):
    """Linear layers on 256 tokens an image."""

    unit, width = 'first', 4

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 5)
        copy_half(self.first)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.first(x.flatten(2).transpose(1, 2))))


class SharedHead(nn.Module):
    """One layer reads two levels."""

    unit, width = 'first', 4

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 5, 3)
        copy_half(self.first)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        small = F.avg_pool2d(x, 2)
        return torch.cat([self.head(x).flatten(2), self.head(small).flatten(2)], 2)


class Depthwise(nn.Module):
    """Copies stay copies through a layer with a group for every channel."""

    unit, width = 'first', 4

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.last = nn.Conv2d(8, 5, 1)
        copy_half(self.first)
        for tensor in (self.depthwise.weight, self.depthwise.bias):
            tensor.data[4:] = tensor.data[:4]
        self.depthwise.bias.data[4:] *= 2

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.depthwise(F.relu(self.first(x)))))


class Grouped(nn.Module):
    """Copies stay copies through groups of two channels."""

    unit, width = 'last_but_one', 4

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.last_but_one = nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(8, 5, 1)
        copy_half(self.last_but_one)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.grouped(F.relu(self.first(x))))
        return self.last(F.relu(self.last_but_one(x)))


def raw(model: nn.Module, x: Tensor) -> Tensor:
    """Outputs of any kind of model as one tensor."""
    with torch.no_grad():
        found = kind_of(model).raw(model, Batch(x, []))
    while isinstance(found, (tuple, list)):
        found = found[0]
    return found


def check(model: nn.Module, x: Tensor, unit: str, width: int) -> None:
    """Acting and written, the narrow network computes what the dense one does."""
    dense = raw(model, x)
    mutator = JointMutator.from_config(dict(
        channel=dict(divisor=1, importance='obs'), reconstruct=dict(
            ridge=1e-9, sequential=False)))
    mutator.prepare(model, verify(model, trace(model, tuple(x.shape[1:]))),
                    Calibration((Batch(x, []),)))
    policy = Policy({unit: width})
    with mutator.acting(policy):
        torch.testing.assert_close(raw(model, x), dense, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(
        raw(mutator.materialise(policy), x), dense, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize('build', [
    Concatenated, Flattened, Tokens, SharedHead, Depthwise, Grouped])
def test_copies_are_removed_without_a_change(build: Callable[[], nn.Module]):
    torch.manual_seed(0)
    model = build().eval()
    x = torch.randn(16, *SHAPE, generator=torch.Generator().manual_seed(0))
    check(model, x, build.unit, build.width)


def test_a_head_of_an_attention_that_repeats_another():
    pytest.importorskip('mmpretrain.models')
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(dict(
        type='mmpretrain.ImageClassifier', backbone=dict(
            type='VisionTransformer', img_size=16, patch_size=4, arch=dict(
                embed_dims=24, num_layers=1, num_heads=3, feedforward_channels=32)),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=24))).eval()
    qkv = model.backbone.layers[0].attn.qkv
    for tensor in (qkv.weight, qkv.bias):
        rows = tensor.data.reshape(3, 3, 8, *tensor.shape[1:])  # q, k, v; heads
        rows[:, 2] = rows[:, 0]
    x = torch.randn(64, *SHAPE, generator=torch.Generator().manual_seed(0))
    check(model, x, 'backbone.layers.0.attn.qkv', 2)
