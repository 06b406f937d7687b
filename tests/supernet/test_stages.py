"""Stages: found, read, recorded and called again."""

import pytest
import torch
from mmengine.hub import get_config
from mmengine.registry import init_default_scope
from torch import nn
from torch.nn import functional as F

from mmcompress.errors import CompressionError
from mmcompress.graph import trace
from mmcompress.mutators import ChannelMutator
from mmcompress.openmmlab.cli import build_model
from mmcompress.policy import Policy
from mmcompress.supernet import Stage, Supernet, find_stages, read_stages
from mmcompress.supernet.recording import Recording

B = 'backbone.'
FOUND = {
    'mmpretrain::resnet/resnet50_8xb32_in1k.py': (
        ('layer1', 'features', [B + 'conv1', B + 'bn1', B + 'relu', B + 'maxpool',
                                B + 'layer1']),
        ('layer2', 'features', [B + 'layer2']), ('layer3', 'features', [B + 'layer3']),
        ('layer4', 'features', [B + 'layer4']), ('head', 'logits', ['neck', 'head'])),
    'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py': (
        ('layer1', 'features', [B + 'conv1', B + 'layer1']),
        ('layer2', 'features', [B + 'layer2']), ('layer3', 'features', [B + 'layer3']),
        ('layer5', 'features', [B + 'layer4', B + 'layer5']),
        ('layer7', 'features', [B + 'layer6', B + 'layer7', B + 'conv2']),
        ('head', 'logits', ['neck', 'head'])),
    'mmdet::yolox/yolox_nano_8xb8-300e_coco.py': (
        ('stage1', 'features', [B + 'stem', B + 'stage1']),
        *((f'stage{i}', 'features', [f'{B}stage{i}']) for i in (2, 3, 4)),
        ('neck', 'features', ['neck']), ('bbox_head', 'detection', ['bbox_head'])),
    'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py': (
        ('stem', 'features', [B + 'stem']),
        *((f'stage{i}', 'features', [f'{B}stage{i}']) for i in (1, 2, 3, 4)),
        ('neck', 'features', ['neck']), ('bbox_head', 'detection', ['bbox_head'])),
}
SHAPE = (3, 64, 64)


@pytest.mark.parametrize('name', FOUND)
def test_real_networks(name):
    cfg = get_config(name)
    init_default_scope(cfg.default_scope)
    model = build_model(cfg)
    stages = find_stages(model, SHAPE)
    assert [(s.name, s.loss, list(s.modules)) for s in stages] == list(FOUND[name])
    # The chain of stages is the network: at dense widths nothing is lost.
    graph = trace(model, SHAPE)
    mutator = ChannelMutator('index', divisor=1)
    mutator.prepare(model, graph)
    supernet = Supernet(model, graph, mutator, stages)
    recording = Recording(stages)
    image = torch.randn(2, *SHAPE)
    model.train()
    with torch.no_grad():
        with recording.of(model):
            model(image, None, mode='tensor')
        dense = Policy({u.name: u.width for u in graph.units})
        half = Policy({u.name: (u.width + 1) // 2 for u in graph.units})
        with supernet.acting(dense):
            for stage in stages:
                # A little over 0 where the divergence of scores rounds.
                assert supernet.stage_loss(stage, recording, dense).abs() < 1e-3
        with supernet.acting(half):
            for stage in stages:
                assert supernet.stage_loss(stage, recording, half) > 0


class Plain(nn.Module):
    """Two convs with a stage boundary between them."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 1, bias=False)
        self.second = nn.Conv2d(4, 3, 1, bias=False)
        self.last = nn.Conv2d(3, 2, 1, bias=False)
        with torch.no_grad():
            for conv in self.children():
                values = torch.arange(1.0, conv.weight.numel() + 1)
                conv.weight.copy_(values.view_as(conv.weight))

    def forward(self, x):
        return self.last(F.relu(self.second(self.first(x))))


def test_a_plain_net_by_hand():
    model = Plain()
    graph = trace(model, (1, 2, 2))
    mutator = ChannelMutator('index', divisor=1)
    mutator.prepare(model, graph)
    stages = read_stages(model, ['first', 'second'], (1, 2, 2))
    supernet = Supernet(model, graph, mutator, stages)
    recording = Recording(stages)
    x = torch.tensor([1.0, 2.0, 0.0, -1.0]).view(1, 1, 2, 2)
    with recording.of(model):
        model(x)
    policy = Policy({'first': 2, 'second': 1})
    with supernet.acting(policy):
        (first, target), = recording.replay(
            stages[0], model, supernet.occupied, policy.widths)
        # first: weights 1 2 3 4, of which the first two channels remain.
        assert torch.equal(first, torch.cat([x, 2 * x], 1))
        assert torch.equal(target, first)
        assert supernet.stage_loss(stages[0], recording, policy) == 0
        (second, target), = recording.replay(
            stages[1], model, supernet.occupied, policy.widths)
        # Channel 0 of second reads weights 1 2 3 4 on x 2x 3x 4x: the full network
        # makes (1 + 4 + 9 + 16) x = 30 x, the subnet (1 + 4) x = 5 x.
        assert torch.equal(second, 5 * x) and torch.equal(target, 30 * x)
        # Mean of (25 x)^2 = 625 * 6 / 4 over the variance of 30 x with x of mean .5:
        # 900 * (.25 + 2.25 + .25 + 2.25) / 3 = 1500.
        loss = supernet.stage_loss(stages[1], recording, policy)
        assert loss.item() == pytest.approx(625 * 6 / 4 / 1500)
        loss.backward()
    # Only the slices that were used have gradients, and only of this stage.
    assert model.first.weight.grad is None and model.last.weight.grad is None
    used = model.second.weight.grad.flatten(1) != 0
    assert used.tolist() == [[True, True, False, False], [False] * 4, [False] * 4]


def test_modules_of_one_stage_are_chained():
    model = Plain()
    stage = Stage('all', ('first', 'second'))
    recording = Recording([stage])
    with recording.of(model):
        model(torch.ones(1, 1, 2, 2))
    (result, target), = recording.replay(stage, model, {}, {})
    assert torch.equal(result, target) and result.shape == (1, 3, 2, 2)
    # The gradient flows through the chain, though both inputs were recorded.
    result.sum().backward()
    assert model.first.weight.grad is not None


def test_writing_into_a_boundary_is_noticed():
    class InPlace(Plain):
        def forward(self, x):
            return self.last(F.relu_(self.second(self.first(x))))

    model = InPlace()
    stage = Stage('second', ('second',))
    recording = Recording([stage])
    with recording.of(model):
        model(-torch.ones(1, 1, 2, 2))
    with pytest.raises(CompressionError, match='writes into a tensor'):
        list(recording.replay(stage, model, {}, {}))


@pytest.mark.parametrize('spec, message', [
    ('all', "give 'auto'"), (['fist'], "names 'fist'"),
    ([dict(name='a')], 'no modules'),
    (['first', dict(modules=['second', 'first'])], 'overlap'),
    ([dict(modules=['first'], loss='l7')], 'malformed'),
    ('auto', 'has no backbone')])
def test_bad_stages(spec, message):
    with pytest.raises(CompressionError, match=message):
        read_stages(Plain(), spec, (1, 2, 2))
