"""Where mmdet's attentions keep their heads; imported where it is loaded."""

from __future__ import annotations

from mmdet.models.backbones.swin import WindowMSA
from mmdet.models.utils.vlfuse_helper import BiMultiHeadAttention

from ...layers.attention import Heads, register_heads
from . import attention_forwards as forwards

register_heads(WindowMSA, Heads(
    {'qkv': 3}, tensors={'relative_position_bias_table': 1}, totals=('embed_dims',),
    forward=forwards.window_attention))

# Images and words look at each other by the same products; both have values.
register_heads(BiMultiHeadAttention, Heads(
    dict.fromkeys(('v_proj', 'l_proj', 'values_v_proj', 'values_l_proj'), 1),
    consumers=('out_v_proj', 'out_l_proj'), totals=('embed_dim',)))
