"""Where mmdet's attentions keep their heads; imported where it is loaded."""

from __future__ import annotations

from mmdet.models.backbones.swin import WindowMSA

from ...layers.attention import Heads, register_heads
from . import attention_forwards as forwards

register_heads(WindowMSA, Heads(
    {'qkv': 3}, tensors={'relative_position_bias_table': 1}, totals=('embed_dims',),
    forward=forwards.window_attention))
