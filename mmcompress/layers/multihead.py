"""``nn.MultiheadAttention`` with its projections as layers.

Torch holds the projections of queries, keys and values as parameters, mostly as one,
and multiplies by them where no layer is called. :func:`open_attentions` makes layers of
them, in place. Outputs stay the same, and so do the keys of the state dict: it holds
the projections as torch's class does, and gives them to the layers when it is loaded.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Heads, register_heads

PROJECTIONS = ('q_proj', 'k_proj', 'v_proj')
"""Layers of an opened attention."""

PACKED, BIAS = 'in_proj_weight', 'in_proj_bias'
SEPARATE = tuple(f'{name}_weight' for name in PROJECTIONS)
"""Keys of a state dict: one weight for all three, or one each; one bias."""


class OpenMultiheadAttention(nn.MultiheadAttention):
    """An attention that calls its projections; see :func:`open_attentions`.

    It may have any number of heads, whose channels are ``head_dim``, and its inputs any
    number of channels: nothing is derived from ``embed_dim``. Torch's fused operators,
    which read the parameters, are not used.

    Attributes:
        q_proj, k_proj, v_proj, out_proj (nn.Linear): Its layers.
        packed (bool): Whether the state dict holds one weight for q, k and v.
        dense_heads (int): Heads that the code around it knows of.
        head_index (Tensor): Those of them that are left, in order: a mask of every head
            is made by the code around it.
    """

    q_proj: nn.Linear
    k_proj: nn.Linear
    v_proj: nn.Linear
    packed: bool
    dense_heads: int
    head_index: Tensor

    @property
    def in_proj_weight(self) -> Tensor | None:
        """A copy, for code that asks for its precision or device."""
        weights = [getattr(self, name).weight for name in PROJECTIONS]
        return torch.cat(weights) if self.packed and _one_width(weights) else None

    @property
    def in_proj_bias(self) -> Tensor | None:
        """A copy, likewise."""
        biases = [getattr(self, name).bias for name in PROJECTIONS]
        return None if biases[0] is None else torch.cat(biases)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor,
        key_padding_mask: Tensor | None = None, need_weights: bool = True,
        attn_mask: Tensor | None = None, average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As ``nn.MultiheadAttention``, whose documentation has the arguments."""
        if is_causal and attn_mask is None:
            raise RuntimeError('is_causal is a hint on attn_mask, which is missing.')
        batched = query.dim() == 3
        q, k, v = (self._heads(x) for x in (
            self.q_proj(query), self.k_proj(key), self.v_proj(value)))
        if self.bias_k is not None:
            k, v = self._longer(k, self.bias_k), self._longer(v, self.bias_v)
        if self.add_zero_attn:
            k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
        # As torch does, which then needs no mask.
        causal = is_causal and key_padding_mask is None and not need_weights
        mask = None if causal else self._mask(q, k, attn_mask, key_padding_mask)
        drop, weights = self.dropout * self.training, None
        if need_weights:
            scores = q * self.head_dim ** -0.5 @ k.transpose(-2, -1)
            weights = (scores if mask is None else scores + mask).softmax(-1)
            weights = F.dropout(weights, drop) if drop else weights
            y = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if batched else weights.squeeze(0)
        else:
            y = F.scaled_dot_product_attention(q, k, v, mask, drop, causal)
        y = y.permute((0, 2, 1, 3) if self.batch_first or not batched else (2, 0, 1, 3))
        y = y.flatten(2) if batched else y.flatten(2).squeeze(0)
        return self.out_proj(y), weights

    def _heads(self, x: Tensor) -> Tensor:
        """From tokens in the layout of the input to ``(batch, heads, tokens, D)``."""
        x = x.unflatten(-1, (self.num_heads, self.head_dim))
        if x.dim() == 3:
            return x.transpose(0, 1).unsqueeze(0)
        return x.permute((0, 2, 1, 3) if self.batch_first else (1, 2, 0, 3))

    def _longer(self, x: Tensor, token: Tensor) -> Tensor:
        """One more token, the same for all images."""
        token = token.reshape(1, self.num_heads, 1, self.head_dim)
        return torch.cat([x, token.expand(len(x), -1, -1, -1)], 2)

    def _mask(
        self, q: Tensor, k: Tensor, attn_mask: Tensor | None,
        key_padding_mask: Tensor | None,
    ) -> Tensor | None:
        """What is added to the scores: nothing for tokens of the attention's own."""
        masks = []
        if attn_mask is not None:
            mask = _additive(attn_mask, q)
            if mask.dim() == 2:
                mask = mask[None, None]
            elif len(mask) == len(q) * self.dense_heads:
                mask = mask.unflatten(0, (-1, self.dense_heads))[:, self.head_index]
            else:
                mask = mask.unflatten(0, (-1, self.num_heads))
            masks.append(mask)
        if key_padding_mask is not None:
            mask = _additive(key_padding_mask, q)
            masks.append(mask.reshape(-1, 1, 1, mask.shape[-1]))
        if not masks:
            return None
        more = k.shape[2] - masks[0].shape[-1]
        return F.pad(sum(masks), (0, more)) if more else sum(masks)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        unpack(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


register_heads(OpenMultiheadAttention, Heads(
    dict.fromkeys(PROJECTIONS, 1), ('out_proj',),
    {'bias_k': 2, 'bias_v': 2, 'head_index': 0}))


def _additive(mask: Tensor, x: Tensor) -> Tensor:
    if mask.is_floating_point():
        return mask
    return torch.zeros_like(mask, dtype=x.dtype).masked_fill(mask, float('-inf'))


def open_attentions(model: nn.Module) -> None:
    """Make layers of the projections of every ``nn.MultiheadAttention``, in place.

    No output changes and no key of the state dict. The parameters are new ones: an
    optimiser must be made afterwards. Classes that derive from torch's stay as they
    are, since they may compute something else, and so do projections that another
    module shares.

    Args:
        model (nn.Module): May have been opened before.
    """
    found = [m for m in model.modules() if type(m) is nn.MultiheadAttention]
    if not found:
        return
    owners = Counter(id(p) for m in model.modules() for p in m._parameters.values())
    for attention in found:
        own = [attention._parameters.get(key) for key in (PACKED, *SEPARATE, BIAS)]
        if all(p is None or owners[id(p)] == 1 for p in own):
            open_up(attention)
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False  # only fused operators read those


def opened_attentions(model: nn.Module) -> list[str]:
    """Paths of the attentions of a model whose projections are layers."""
    return [name for name, module in model.named_modules()
            if isinstance(module, OpenMultiheadAttention)]


def open_up(attention: nn.MultiheadAttention) -> None:
    """Make layers of the projections of one attention; see :func:`open_attentions`."""
    own = attention._parameters
    packed, separate, bias = (
        own.pop(PACKED), [own.pop(key, None) for key in SEPARATE], own.pop(BIAS))
    weights = separate if packed is None else _thirds(packed)
    biases = [None] * 3 if bias is None else _thirds(bias)
    attention.__class__ = OpenMultiheadAttention
    for name, weight, vector in zip(PROJECTIONS, weights, biases):
        layer = nn.Linear(*reversed(weight.shape), vector is not None, device='meta')
        layer._parameters.update(weight=weight, bias=vector)
        attention.add_module(name, layer.train(attention.training))
    attention.out_proj.__class__ = nn.Linear  # the other one computes the same
    attention.packed = packed is not None
    attention.dense_heads = attention.num_heads
    attention.register_buffer('head_index', torch.arange(
        attention.num_heads, device=attention.out_proj.weight.device), persistent=False)
    attention._qkv_same_embed_dim = False  # tells a torch encoder not to fuse it
    attention._register_state_dict_hook(_pack)


def _thirds(param: nn.Parameter) -> list[nn.Parameter]:
    return [nn.Parameter(part, param.requires_grad)
            for part in param.detach().clone().chunk(3)]


def _one_width(weights: list[Tensor]) -> bool:
    return len({weight.shape[1] for weight in weights}) == 1


def _pack(
    attention: OpenMultiheadAttention, state: dict[str, Tensor], prefix: str, _: Any
) -> None:
    """Give a state dict the keys of torch's class, in the order that it has them."""
    own = {key: state.pop(key) for key in list(state) if key.startswith(prefix)}
    weights = [own.pop(f'{prefix}{name}.weight') for name in PROJECTIONS]
    layers = [attention.get_submodule(name)._parameters for name in PROJECTIONS]
    if attention.packed and _one_width(weights):
        state[prefix + PACKED] = _joined([layer['weight'] for layer in layers])
    else:
        state.update((prefix + key, weight) for key, weight in zip(SEPARATE, weights))
    if layers[0]['bias'] is not None:
        state[prefix + BIAS] = _joined([layer['bias'] for layer in layers])
        for name in PROJECTIONS:
            own.pop(f'{prefix}{name}.bias')
    state.update(own)


def _joined(params: list[nn.Parameter]) -> Tensor:
    """The tensor of which some parameters are the parts, from now on.

    What a state dict holds is the model's own: an average of weights (mmengine's
    EMAHook) writes to it.
    """
    first, size = params[0].data, params[0].numel()
    places = [(p.untyped_storage().data_ptr(), p.storage_offset(), p.is_contiguous())
              for p in params]
    pointer, start, _ = places[0]
    if places == [(pointer, start + i * size, True) for i in range(len(params))]:
        return first.as_strided((len(params) * len(first), *first.shape[1:]),
                                first.stride())
    joined = torch.cat([p.data for p in params])
    for param, part in zip(params, joined.chunk(len(params))):
        param.data = part
    return joined


def unpack(state: dict[str, Any], prefix: str) -> None:
    """Give a state dict the keys of the layers, in place.

    Args:
        state (dict[str, Tensor]): Of a model with an attention, dense or slim, or one
            that has been unpacked.
        prefix (str): Path of the attention, with a dot behind it.
    """
    found = {'weight': [state.pop(prefix + key, None) for key in SEPARATE]}
    for kind, key in (('weight', PACKED), ('bias', BIAS)):
        tensor = state.pop(prefix + key, None)
        if tensor is not None:
            found[kind] = tensor.chunk(3)
    for kind, tensors in found.items():
        state.update((f'{prefix}{name}.{kind}', tensor)
                     for name, tensor in zip(PROJECTIONS, tensors)
                     if tensor is not None)
