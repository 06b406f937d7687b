"""Where mmpretrain's attentions keep their heads; imported where it is loaded."""

from __future__ import annotations

from mmpretrain.models.backbones.davit import ChannelAttention, DaViTWindowMSA
from mmpretrain.models.backbones.efficientformer import AttentionWithBias
from mmpretrain.models.backbones.hivit import Attention as HiViTAttention
from mmpretrain.models.backbones.levit import Attention as LeViTAttention
from mmpretrain.models.backbones.levit import AttentionSubsample
from mmpretrain.models.backbones.mixmim import MixMIMWindowAttention
from mmpretrain.models.backbones.mvit import MultiScaleAttention
from mmpretrain.models.backbones.twins import (
    GlobalSubsampledAttention,
    LocallyGroupedSelfAttention,
)
from mmpretrain.models.backbones.vit_eva02 import AttentionWithRoPE
from mmpretrain.models.backbones.vit_sam import Attention as SAMAttention
from mmpretrain.models.backbones.xcit import XCA, ClassAttntion
from mmpretrain.models.utils.attention import (
    BEiTAttention,
    ChannelMultiheadAttention,
    LeAttention,
    MultiheadAttention,
    WindowMSA,
    WindowMSAV2,
)

from ...layers.attention import Heads, register_heads
from . import attention_forwards as forwards

QKV = {'qkv': 3}
TABLE = {'relative_position_bias_table': 1}
BIASES = {'q_bias': 0, 'v_bias': 0}
WIDTH = ('embed_dims',)
# LeViT and its kin: entering evaluation mode computes ``ab`` from the biases.
OFFSETS = {'attention_biases': 0, 'ab': 0}
QK_AND_V = ('nh_kd', 'dh')

register_heads(MultiheadAttention, Heads(QKV, totals=WIDTH))
register_heads(ChannelAttention, Heads(QKV, totals=WIDTH))
register_heads(AttentionWithRoPE, Heads(QKV, totals=WIDTH))
register_heads(SAMAttention, Heads(QKV))
register_heads(MultiScaleAttention, Heads(
    QKV, totals=('out_dims',), per_head=('pool_q', 'pool_k', 'pool_v')))
register_heads(ChannelMultiheadAttention, Heads(
    QKV, tensors={'scale': 0}, totals=WIDTH))
for le_attention in (AttentionWithBias, LeAttention):
    register_heads(le_attention, Heads({'qkv': 1}, tensors=OFFSETS, totals=QK_AND_V))
register_heads(LeViTAttention, Heads(
    {'qkv.bn': 1}, ('proj.1.linear',), OFFSETS, QK_AND_V))
register_heads(AttentionSubsample, Heads(
    {'kv.bn': 1, 'q.1.bn': 1}, ('proj.1.linear',), OFFSETS, QK_AND_V))
register_heads(WindowMSA, Heads(
    QKV, tensors=TABLE, totals=WIDTH, forward=forwards.window_attention))
register_heads(MixMIMWindowAttention, Heads(
    QKV, tensors=TABLE, totals=WIDTH, forward=forwards.mixmim_attention))
register_heads(DaViTWindowMSA, Heads(
    QKV, totals=WIDTH, forward=forwards.window_attention))
register_heads(WindowMSAV2, Heads(
    {**QKV, 'cpb_mlp.2': 1}, tensors={**BIASES, 'logit_scale': 0}, totals=WIDTH,
    forward=forwards.window_attention_v2))
register_heads(BEiTAttention, Heads(
    QKV, tensors={**BIASES, **TABLE}, totals=WIDTH, forward=forwards.beit_attention))
register_heads(HiViTAttention, Heads(
    QKV, tensors=TABLE, totals=('dim',), forward=forwards.hivit_attention))
register_heads(LocallyGroupedSelfAttention, Heads(
    QKV, totals=WIDTH, forward=forwards.local_attention))
register_heads(GlobalSubsampledAttention, Heads(
    {'q': 1, 'kv': 2}, totals=WIDTH, forward=forwards.subsampled_attention))
register_heads(XCA, Heads(
    QKV, tensors={'temperature': 0}, forward=forwards.cross_covariance))
register_heads(ClassAttntion, Heads(
    {'q': 1, 'k': 1, 'v': 1}, forward=forwards.class_attention))
