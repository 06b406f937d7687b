"""Heads as channels of a unit: what is removed with one, and what counts them."""

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import init_default_scope
from torch import nn

from mmcompress.costs import Costs, CostTable
from mmcompress.graph import trace, verify
from mmcompress.graph.verify import compare
from mmcompress.layers.attention import Heads, attentions, register_heads
from mmcompress.mutators import ChannelMutator
from mmcompress.policy import Policy, SearchSpace
from mmcompress.registry import MODELS
from mmcompress.surgery.heads import any_number_of_heads, call_layers
from mmcompress.surgery.materialise import materialise
from mmcompress.surgery.precision import in_float64
from mmcompress.surgery.selection import Selection
from mmcompress.testing.networks import (
    check_network,
    error,
    outputs,
    precise_outputs,
    zeroed_error,
)
from tools.zoo.check import rebuild_error

pytest.importorskip('mmpretrain.models')

VIT = dict(
    type='VisionTransformer', img_size=32, patch_size=16, arch=dict(
        embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=32))
SWIN = dict(
    type='SwinTransformer', img_size=56, window_size=7, out_indices=(1,),
    arch=dict(embed_dims=12, depths=[2, 1], num_heads=[3, 6]))
SWIN_V2 = dict(
    type='SwinTransformerV2', img_size=64, window_size=[8, 8], out_indices=(1,),
    arch=dict(embed_dims=12, depths=[2, 1], num_heads=[3, 6],
              extra_norm_every_n_blocks=0))
BEIT = dict(VIT, type='BEiTViT', out_type='avg_featmap')
MIXMIM = dict(
    type='MixMIMTransformer', img_size=64, window_size=[2] * 4,
    arch=dict(embed_dims=8, depths=[1] * 4, num_heads=[2, 2, 4, 4]))
DAVIT = dict(
    type='DaViT', out_indices=(1,), window_size=7,
    arch=dict(embed_dims=12, depths=[1, 1], num_heads=[3, 6]))
# Pools every head by convs that all its heads share; its second attention reads 8
# channels and makes 16.
MVIT = dict(
    type='MViT', img_size=32, out_scales=-1, arch=dict(
        embed_dims=8, num_layers=2, num_heads=2, downscale_indices=[1]))
NETWORKS = dict(
    vit=(VIT, 24, 32), swin=(SWIN, 24, 56), swin_v2=(SWIN_V2, 24, 64),
    beit=(BEIT, 24, 32), mixmim=(MIXMIM, 64, 64), davit=(DAVIT, 24, 56),
    mvit=(MVIT, 16, 32))


def classifier(backbone, channels):
    flat = backbone['type'] in ('VisionTransformer', 'BEiTViT', 'MixMIMTransformer')
    return dict(
        type='mmpretrain.ImageClassifier', backbone=backbone,
        neck=None if flat else dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=channels))


def build(config):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MMENGINE_MODELS.build(config)
    model.eval()
    return model


def vit():
    return build(classifier(VIT, 24))


def least(graph):
    """One head in every attention, everything else dense."""
    return Policy({u.name: 1 for u in graph.units if u.name.endswith('qkv')})


def test_members_of_a_head():
    model = vit()
    unit = trace(model, (3, 32, 32)).units[0]
    assert (unit.name, unit.width, unit.granularity) == (
        'backbone.layers.0.attn.qkv', 3, 24)
    places = {(m.layer.rpartition('.')[2], m.side): m.positions for m in unit.members}
    # The middle one of three heads of 8: rows 8-15 of q, of k and of v.
    rows = np.arange(8, 16)
    assert places['qkv', 'out'][1].tolist() == [*rows, *rows + 24, *rows + 48]
    assert places['proj', 'in'][1].tolist() == rows.tolist()
    assert places['attn', 'out'].tolist() == [[0], [1], [2]]


def test_a_removed_head_is_one_whose_result_is_zero():
    model = vit()
    image = torch.randn(2, 3, 32, 32)
    graph = trace(model, (3, 32, 32))
    attention = model.backbone.layers[0].attn
    tokens = torch.randn(2, 5, 24)
    # By hand: without columns 8-15 of the projection, head 1 says nothing.
    weight = attention.proj.weight.data.clone()
    attention.proj.weight.data[:, 8:16] = 0
    with torch.no_grad():
        wanted, logits = attention(tokens), model(image)
    attention.proj.weight.data = weight
    name = graph.units[0].name
    slim = materialise(
        model, graph, Policy({name: 2}), {name: np.array([0, 2])})
    small = slim.backbone.layers[0].attn
    assert (small.num_heads, small.embed_dims, small.head_dims) == (2, 16, 8)
    assert small.qkv.weight.shape == (48, 24) and small.proj.weight.shape == (24, 16)
    assert torch.equal(small.proj.weight[:, 8:], weight[:, 16:])
    with torch.no_grad():
        torch.testing.assert_close(small(tokens), wanted)
        torch.testing.assert_close(slim(image), logits)


def test_costs_of_heads():
    model = vit()
    graph = verify(model, trace(model, (3, 32, 32)))
    costs = Costs(CostTable.from_graph(graph), SearchSpace.from_graph(graph))
    dense, one = costs.dense(), costs.of(Policy({'backbone.layers.0.attn.qkv': 1}))
    # Two heads: 2 * 24 rows of 24 weights and a bias, and 24 * 16 columns.
    assert dense['params'] - one['params'] == 48 * 25 + 24 * 16
    # At 4 patches and the class token.
    assert dense['macs'] - one['macs'] == 5 * (48 * 24 + 24 * 16)
    # All but the patches (4 * 768 * 24) and the head (240), of which none can go.
    macs = 2 * 5 * (72 * 24 + 24 * 24 + 2 * 32 * 24)
    assert graph.governed == pytest.approx(macs / (macs + 4 * 768 * 24 + 240))


def test_layers_that_run_for_every_head():
    model = build(classifier(MVIT, 16))
    graph = verify(model, trace(model, (3, 32, 32)))
    costs = Costs(CostTable.from_graph(graph), SearchSpace.from_graph(graph))
    attention = 'backbone.blocks.1.attn'
    layers = {layer.name.removeprefix(f'{attention}.'): layer for layer in graph.layers}
    # 4 heads of 4 channels. Of 8 x 8 places (stride 4) each pool leaves 4 x 4.
    assert {(p.attention, p.heads, p.positions) for p in (
        layers['pool_q'], layers['pool_k'], layers['pool_v'])} == {
            (attention, 4, 4 * 16)}
    dense, one = costs.dense(), costs.of(Policy({f'{attention}.qkv': 3}))
    # A head: 12 rows of 8 weights and a bias, 16 * 4 columns; the pools stay.
    assert dense['params'] - one['params'] == 12 * 9 + 64
    macs = 64 * 12 * 8 + 16 * 64 + 3 * 16 * 4 * 9
    assert dense['macs'] - one['macs'] == macs
    assert dense['bops'] - one['bops'] == 1024 * macs


def test_tables_and_scales_of_a_head():
    graph = trace(build(classifier(SWIN_V2, 24)), (3, 64, 64))
    # Biases of q and v (2 * 4), and one logit scale.
    assert graph.norm_params['backbone.stages.0.blocks.0.attn.w_msa'] == 9
    layers = {m.layer.rpartition('w_msa.')[2] for m in graph.units[0].members}
    assert layers == {
        'qkv', 'cpb_mlp.2', 'proj', 'backbone.stages.0.blocks.0.attn.w_msa'}
    graph = trace(build(classifier(SWIN, 24)), (3, 56, 56))
    # A column of a table of all distances in a window of 7.
    assert graph.norm_params['backbone.stages.0.blocks.0.attn.w_msa'] == 13 * 13


@pytest.mark.parametrize('name', NETWORKS)
def test_networks(name):
    backbone, channels, side = NETWORKS[name]
    config = classifier(backbone, channels)
    model, mutator = build(config), ChannelMutator(divisor=4)
    report = check_network(model, (3, side, side), mutator=mutator)
    graph = mutator.graph
    assert {u.name.rpartition('.')[0] for u in graph.units
            if u.name.endswith('.qkv')} == set(attentions(model))
    assert not report.left_out
    assert (report.macs, report.params) == (report.true_macs, report.true_params)
    assert report.permuted < 1e-5
    assert max(report.zeroed, report.materialised) < 1e-4
    assert rebuild_error(config, mutator) < 1e-4

    before = {name: dict(vars(m)) for name, m in model.named_modules()}
    dense = outputs(model, graph.trace_shape)
    policy = least(graph)
    assert zeroed_error(mutator, policy) < 1e-4
    with mutator.acting(policy):
        acting = outputs(model, graph.trace_shape)
        assert {m.num_heads for m in attentions(model).values()} == {1}
    slim = mutator.materialise(policy)
    slim.eval()
    assert error(outputs(slim, graph.trace_shape), acting) < 1e-4
    assert error(acting, dense) > 1e-3
    assert {name: dict(vars(m)) for name, m in model.named_modules()} == before
    assert all(torch.equal(a, b) for a, b in zip(
        outputs(model, graph.trace_shape), dense))
    # The slim model is a model like any other: its heads can be traced, too.
    assert all(not u.name.endswith('qkv') for u in trace(slim, (3, side, side)).units)


def test_a_checkpoint_of_the_dense_model(tmp_path):
    from mmcompress.policy.files import PolicyFile

    config = classifier(SWIN_V2, 24)
    model = build(config)
    mutator = ChannelMutator(divisor=4)
    mutator.prepare(model, verify(model, trace(model, (3, 64, 64))))
    policy = least(mutator.graph)
    path = tmp_path / 'policy.json'
    PolicyFile(policy, mutator.graph.fingerprint, mutator.graph.input_shape,
               mutator.channels(policy)).save(path)
    slim = MODELS.build(dict(
        type='mmcompress.Compressed', architecture=config, policy=str(path)))
    slim.load_state_dict(build(config).state_dict(), strict=False)
    slim.eval()
    with mutator.acting(policy):
        wanted = outputs(model, (3, 64, 64))
    assert error(outputs(slim, (3, 64, 64)), wanted) < 1e-4


def test_the_channels_between_attentions_may_go():
    """BEiT has no absolute positions: the channels of its tokens are a unit.

    Its class takes the channels of a head from those of its input.
    """
    model = build(classifier(BEIT, 24))
    graph = trace(model, (3, 32, 32))
    unit = graph.unit('backbone.patch_embed.projection')
    assert 'backbone.layers.0.attn.qkv' in {
        m.layer for m in unit.members if m.side == 'in'}
    kept = {unit.name: np.arange(0, 24, 2)}
    with torch.no_grad():
        assert not compare(model, Selection(model, graph), kept)


@pytest.mark.parametrize('name', NETWORKS)
def test_forwards_that_stand_in(name):
    backbone, channels, side = NETWORKS[name]
    model = build(classifier(backbone, channels))
    trace(model, (3, side, side))
    wanted = precise_outputs(model, (3, side, side))
    with any_number_of_heads(model):
        assert error(precise_outputs(model, (3, side, side)), wanted) < 1e-10
    call_layers(model)
    assert error(precise_outputs(model, (3, side, side)), wanted) < 1e-10


def hivit_attention():
    from mmpretrain.models.backbones.hivit import Attention

    return Attention(3, 12, 2), dict(
        rpe_index=torch.zeros(1), mask=torch.rand(2, 9) > 0.3)


def mixmim_attention():
    from mmpretrain.models.backbones.mixmim import MixMIMWindowAttention

    return MixMIMWindowAttention(12, (3, 3), 2), dict(
        mask=(torch.rand(2, 9) > 0.5).double())


def beit_attention():
    from mmpretrain.models.utils import BEiTAttention

    return BEiTAttention(12, 2, (2, 4), True), dict(rel_pos_bias=torch.randn(2, 9, 9))


def davit_attention():
    from mmpretrain.models.backbones.davit import DaViTWindowMSA

    return DaViTWindowMSA(12, (3, 3), 2), dict(mask=torch.randn(1, 9, 9))


def window_attention(module='mmpretrain.models.utils.attention'):
    import importlib

    cls = importlib.import_module(module).WindowMSA
    return cls(embed_dims=12, num_heads=2, window_size=(3, 3)), dict(
        mask=torch.randn(2, 9, 9))


def mmdet_attention():
    pytest.importorskip('mmdet.models.backbones.swin')
    return window_attention('mmdet.models.backbones.swin')


@pytest.mark.parametrize('make', [
    hivit_attention, mixmim_attention, beit_attention, davit_attention,
    window_attention, mmdet_attention])
def test_masks_and_biases_of_stand_ins(make):
    torch.manual_seed(0)
    attention, options = make()
    attention.eval()
    for parameter in attention.parameters():
        nn.init.normal_(parameter)
    trace(vit(), (3, 32, 32))  # registers
    x = torch.randn(2, 9, 12)
    with in_float64(attention), torch.no_grad():
        x = x.double()
        options = {k: v if v.dtype == torch.bool else v.double()
                   for k, v in options.items()}
        wanted = attention(x, **options)
        assert not torch.allclose(wanted, attention(x))
        with any_number_of_heads(attention):
            torch.testing.assert_close(attention(x, **options), wanted)


class Mixer(nn.Module):
    """An attention of a user, whose q, k and v of a head are side by side."""

    def __init__(self):
        super().__init__()
        self.heads, self.width = 4, 8
        self.into, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.weight = nn.Parameter(torch.rand(1, 4, 1, 1) + 1)

    def forward(self, x):
        qkv = self.into(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        q, k, v = qkv.chunk(3, -1)
        y = (self.weight * q @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(len(x), -1, self.width))


class OtherMixer(Mixer):
    """One that must not be taken for its base."""

    def forward(self, x):
        return super().forward(x) + 1


@pytest.fixture
def registered():
    register_heads(Mixer, Heads(
        {'into': 1}, ('out',), {'weight': 1}, ('width',), count='heads'))


def mixing(net, mixer):
    return net(lambda m, x: m.fc(m.mixer(x.flatten(2).transpose(1, 2) @ m.grow)),
               mixer=mixer, grow=torch.randn(3, 8), fc=nn.Linear(8, 2))


def test_a_class_of_the_user(net, registered):
    model = mixing(net, Mixer())
    graph = verify(model, trace(model, (3, 4, 4)))
    unit = graph.unit('mixer.into')
    assert (unit.width, unit.granularity) == (4, 6)
    places = {m.layer: m.positions[1].tolist() for m in unit.members}
    assert places == {
        'mixer.into': [6, 7, 8, 9, 10, 11], 'mixer.out': [2, 3], 'mixer': [1]}
    assert graph.norm_params['mixer'] == 1
    mutator = ChannelMutator(divisor=1)
    mutator.prepare(model, graph)
    with mutator.acting(Policy({'mixer.into': 3})):
        assert (model.mixer.heads, model.mixer.width) == (3, 6)
        assert model.mixer.weight.shape == (1, 3, 1, 1)
    assert (model.mixer.heads, model.mixer.width) == (4, 8)


def test_a_forward_of_its_own_is_another_class(net, registered):
    graph = trace(mixing(net, OtherMixer()), (3, 4, 4))
    assert 'mixer.into' not in {u.name for u in graph.units}
