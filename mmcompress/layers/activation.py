"""Activations that own a parameter by channel, or are operators of a file."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..arithmetic.labels import LabelTracer
from ..arithmetic.slices import Kept, size_of
from .norm import ChannelwiseRule
from .rule import LayerRule, own_vectors, register_rule


class PReLURule(ChannelwiseRule):
    """A slope by channel, or one for all."""

    def out_size(self, module: nn.PReLU) -> int:
        """Slopes."""
        return module.num_parameters

    def follow(
        self, module: nn.PReLU, tracer: LabelTracer, name: str, x: Tensor, out: Tensor
    ) -> None:
        """One slope for all channels leaves every label."""
        if module.num_parameters > 1:
            super().follow(module, tracer, name, x, out)
        else:
            tracer.set(out, tracer.get(x))

    def slice(self, module: nn.PReLU, out: Kept, into: Kept) -> dict[str, Any]:
        """Slopes."""
        size = module.num_parameters
        return dict(own_vectors(module, size, out), num_parameters=size_of(out, size))


class SiLURule(LayerRule):
    """``x sigmoid(x)``."""

    whole = False
    operator = 'SiLU'


register_rule(nn.PReLU, PReLURule())
register_rule(nn.SiLU, SiLURule())
