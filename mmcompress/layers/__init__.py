"""Kinds of layers, one page each: all that the core must know about the kind.

What walks a whole model lives in `surgery` and `graph`; the layers of other packages
than torch live in `openmmlab.layers`.
"""

from . import (  # noqa: F401  (register)
    activation,
    attention,
    conv,
    linear,
    multihead,
    norm,
    pad,
)
from .attention import Heads, register_heads
from .rule import LayerRule, register_rule, rule_of

__all__ = ['Heads', 'LayerRule', 'register_heads', 'register_rule', 'rule_of']
