"""Activations that own a parameter by channel, or are operators of a file."""

from __future__ import annotations

from torch import Tensor, nn

from ..arithmetic.labels import LabelTracer
from .norm import ChannelwiseRule
from .rule import LayerRule, register_rule


class PReLURule(ChannelwiseRule):
    """A slope by channel, or one for all."""

    outputs = 'num_parameters'

    def follow(
        self, module: nn.PReLU, tracer: LabelTracer, name: str, x: Tensor, out: Tensor
    ) -> None:
        if module.num_parameters > 1:
            super().follow(module, tracer, name, x, out)
        else:
            tracer.set(out, tracer.get(x))


class SiLURule(LayerRule):
    """``x sigmoid(x)``."""

    whole = False
    operator = 'SiLU'


register_rule(nn.PReLU, PReLURule())
register_rule(nn.SiLU, SiLURule())
