"""Where mmdet's attentions keep their heads; imported where it is loaded."""

from __future__ import annotations

from mmdet.models.backbones.swin import WindowMSA
from mmdet.models.layers.transformer.utils import ConditionalAttention
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
# Content and position have projections of their own; no decoder has them all.
register_heads(ConditionalAttention, Heads(
    dict.fromkeys(('qcontent_proj', 'kcontent_proj', 'v_proj', 'qpos_proj',
                   'kpos_proj', 'qpos_sine_proj'), 1),
    ('out_proj',), totals=('embed_dims',), optional=('qpos_proj', 'qpos_sine_proj')))
