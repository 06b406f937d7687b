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


def local_attention(
    module: nn.Module, x: Tensor, hw_shape: tuple[int, int]
) -> Tensor:
    """Twins' ``LocallyGroupedSelfAttention``: windows that padding completes."""
    side, (height, width) = module.window_size, hw_shape
    below, right = -height % side, -width % side
    x = F.pad(x.unflatten(1, hw_shape), (0, 0, 0, right, 0, below))
    rows, columns = x.shape[1] // side, x.shape[2] // side
    # The class pads by slices [-below:], which take in everything where nothing is
    # padded: all tokens are alike then, and nothing is masked.
    padded = x.new_zeros(1, *x.shape[1:3], 1)
    padded[:, -below:] = padded[:, :, -right:] = 1

    def windows(y: Tensor) -> Tensor:
        y = y.reshape(len(y), rows, side, columns, side, -1).transpose(2, 3)
        return y.reshape(len(y), rows * columns, side * side, -1)

    apart = windows(padded) != windows(padded).transpose(-2, -1)
    qkv = module.qkv(windows(x)).unflatten(-1, (3, module.num_heads, -1))
    q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)
    attention = q @ k.transpose(-2, -1) * module.scale - 1000.0 * apart.unsqueeze(2)
    y = (module.attn_drop(attention.softmax(-1)) @ v).transpose(2, 3).flatten(3)
    y = y.reshape(len(x), rows, columns, side, side, -1).transpose(2, 3)
    y = y.reshape(len(x), rows * side, columns * side, -1)[:, :height, :width]
    return module.proj_drop(module.proj(y.flatten(1, 2)))


def subsampled_attention(
    module: nn.Module, x: Tensor, hw_shape: tuple[int, int]
) -> Tensor:
    """Twins' ``GlobalSubsampledAttention``: keys and values of a smaller image."""
    [q] = split_heads(module, module.q(x), 1)
    if module.sr_ratio > 1:
        image = module.sr(x.transpose(1, 2).unflatten(2, hw_shape))
        x = module.norm(image.flatten(2).transpose(1, 2))
    k, v = split_heads(module, module.kv(x), 2)
    drop = module.attn_drop if module.training else 0.0
    y = module.scaled_dot_product_attention(q, k, v, dropout_p=drop)
    y = module.out_drop(module.proj_drop(module.proj(y.transpose(1, 2).flatten(2))))
    return v.squeeze(1) + y if module.v_shortcut else y


def cross_covariance(module: nn.Module, x: Tensor) -> Tensor:
    """XCiT's ``XCA``: channels of a head attend to each other."""
    q, k, v = split_heads(module, module.qkv(x)).transpose(-2, -1)
    attention = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
    attention = module.attn_drop((attention * module.temperature).softmax(-1))
    y = (attention @ v).permute(0, 3, 1, 2).flatten(2)
    return module.proj_drop(module.proj(y))


def class_attention(module: nn.Module, x: Tensor) -> Tensor:
    """XCiT's ``ClassAttntion``: the class token alone asks."""
    [q] = split_heads(module, module.q(x[:, :1]), 1)
    [k], [v] = (split_heads(module, layer(x), 1) for layer in (module.k, module.v))
    attention = (module.scale * q @ k.transpose(-2, -1)).softmax(-1)
    return project(module, module.attn_drop(attention), v)
