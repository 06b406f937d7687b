"""Where mmpretrain's attentions keep their heads; imported where it is loaded.

Left out: MViT pools every head by a conv of its own, so that layers cost by the number
of heads, not of channels.
"""

from __future__ import annotations

from mmpretrain.models.backbones.davit import ChannelAttention, DaViTWindowMSA
from mmpretrain.models.backbones.hivit import Attention as HiViTAttention
from mmpretrain.models.backbones.mixmim import MixMIMWindowAttention
from mmpretrain.models.utils.attention import (
    BEiTAttention,
    MultiheadAttention,
    WindowMSA,
    WindowMSAV2,
)

from . import attention_forwards as forwards
from .attention import Heads, register_heads

QKV = {'qkv': 3}
TABLE = {'relative_position_bias_table': 1}
BIASES = {'q_bias': 0, 'v_bias': 0}
WIDTH = ('embed_dims',)

register_heads(MultiheadAttention, Heads(QKV, totals=WIDTH))
register_heads(ChannelAttention, Heads(QKV, totals=WIDTH))
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
