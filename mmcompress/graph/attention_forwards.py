"""Attention with any number of heads.

What the classes of mmpretrain and mmdet compute, term by term, but for two things:
the channels of a head are found from the projections, not from the input, and every
projection is called. :func:`mmcompress.graph.verify` compares them with the classes'
own forwards on every model.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def split_heads(module: nn.Module, x: Tensor, parts: int = 3) -> Tensor:
    """From ``(B, N, parts * heads * D)`` to ``(parts, B, heads, N, D)``."""
    return x.unflatten(-1, (parts, module.num_heads, -1)).permute(2, 0, 3, 1, 4)


def project(module: nn.Module, attention: Tensor, v: Tensor) -> Tensor:
    """Weigh the values of every head, join the heads and project them."""
    return module.proj_drop(module.proj((attention @ v).transpose(1, 2).flatten(2)))


def table_bias(table: Tensor, index: Tensor) -> Tensor:
    """Bias ``(heads, N, N)`` of a table ``(distances, heads)``."""
    return table[index.flatten()].unflatten(0, index.shape).permute(2, 0, 1)


def _masked(attention: Tensor, mask: Tensor | None) -> Tensor:
    """Add a mask of shape ``(windows, N, N)``; windows vary fastest in the batch."""
    if mask is None:
        return attention
    windows = attention.unflatten(0, (-1, len(mask)))
    return (windows + mask[:, None]).flatten(0, 1)


def window_attention(
    module: nn.Module, x: Tensor, mask: Tensor | None = None
) -> Tensor:
    """``WindowMSA`` (with a table of biases) and ``DaViTWindowMSA`` (without)."""
    q, k, v = split_heads(module, module.qkv(x))
    attention = module.scale * q @ k.transpose(-2, -1)
    if 'relative_position_bias_table' in module._parameters:
        attention = attention + table_bias(
            module.relative_position_bias_table, module.relative_position_index)
    attention = _masked(attention, mask).softmax(-1)
    return project(module, module.attn_drop(attention), v)


def mixmim_attention(
    module: nn.Module, x: Tensor, mask: Tensor | None = None
) -> Tensor:
    """``MixMIMWindowAttention``: tokens of two images do not see each other."""
    if mask is not None:
        mask = mask.reshape(len(x), 1, 1, -1)
        apart = (mask != mask.transpose(2, 3)).to(x)
        mask = -(65500 if x.dtype == torch.float16 else 1e30) * apart
    q, k, v = split_heads(module, module.qkv(x))
    attention = module.scale * q @ k.transpose(-2, -1) + table_bias(
        module.relative_position_bias_table, module.relative_position_index)
    attention = attention if mask is None else attention + mask
    return project(module, module.attn_drop(attention.softmax(-1)), v)


def with_own_biases(module: nn.Module, x: Tensor) -> Tensor:
    """Packed q, k and v where the attention holds biases of q and v, none of k."""
    qkv = module.qkv(x)
    if module._parameters.get('q_bias') is None:
        return qkv
    return qkv + torch.cat(
        [module.q_bias, torch.zeros_like(module.v_bias), module.v_bias])


def window_attention_v2(
    module: nn.Module, x: Tensor, mask: Tensor | None = None
) -> Tensor:
    """``WindowMSAV2``: cosines, scaled by head, and biases computed by a network."""
    q, k, v = split_heads(module, with_own_biases(module, x))
    attention = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
    attention = attention * module.logit_scale.clamp(max=math.log(100)).exp()
    table = module.cpb_mlp(module.relative_coords_table).flatten(0, 2)
    attention = attention + 16 * table_bias(
        table, module.relative_position_index).sigmoid()
    attention = _masked(attention, mask).softmax(-1)
    return project(module, module.attn_drop(attention), v)


def beit_attention(
    module: nn.Module, x: Tensor, rel_pos_bias: Tensor | None = None
) -> Tensor:
    """``BEiTAttention``."""
    q, k, v = split_heads(module, with_own_biases(module, x))
    attention = module.scale * q @ k.transpose(-2, -1)
    if module.relative_position_bias_table is not None:
        attention = attention + table_bias(
            module.relative_position_bias_table, module.relative_position_index)
    if rel_pos_bias is not None:
        attention = attention + rel_pos_bias
    return project(module, module.attn_drop(attention.softmax(-1)), v)


def hivit_attention(
    module: nn.Module, x: Tensor, rpe_index: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """HiViT's ``Attention``, with its square table of biases or without."""
    q, k, v = split_heads(module, module.qkv(x))
    attention = module.scale * q @ k.transpose(-2, -1)
    if rpe_index is not None:
        attention = attention + table_bias(
            module.relative_position_bias_table, module.relative_position_index)
    if mask is not None:
        attention = attention.masked_fill(~mask.bool()[:, None, None], float('-inf'))
    return project(module, module.attn_drop(attention.softmax(-1)), v)
