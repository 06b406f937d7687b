"""Linear layers, over the last axis of any tensor."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..arithmetic.slices import Kept, take
from .quantised import QuantLayer
from .rule import LayerRule, register_rule


class QuantLinear(QuantLayer, nn.Linear):
    """A linear layer; see :class:`QuantLayer`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, ..., C)`` as the plain layer does."""
        return F.linear(
            self.input_quantizer(x), self.weight_quantizer(self.weight), self.bias)


class LinearRule(LayerRule):
    """A linear layer."""

    kind = 'linear'
    inputs, outputs = 'in_features', 'out_features'

    def __init__(self, quantised: type[QuantLayer] | None = QuantLinear) -> None:
        self.quantised = quantised

    def channel_axis(self, module: nn.Linear, x: Tensor) -> int:
        return x.dim() - 1

    def slice(self, module: nn.Linear, out: Kept, into: Kept) -> dict[str, Any]:
        return dict(
            self.sizes(module, out, into),
            weight=take(take(module.weight, 0, out), 1, into),
            bias=take(module.bias, 0, out))

    def output(self, module: nn.Linear, x: Tensor) -> Tensor | None:
        """Where the layer is a plain ``nn.Linear``."""
        if type(module) is not nn.Linear:
            return None
        return x.new_zeros(*x.shape[:-1], module.out_features)

    def pull(self, module: nn.Linear, weight: Tensor, x: Tensor, gy: Tensor) -> Tensor:
        return gy @ weight


register_rule(nn.Linear, LinearRule())
