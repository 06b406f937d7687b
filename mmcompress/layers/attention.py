"""Heads of attention as channels of a unit.

A head is rows of the layers that make queries, keys and values, columns of the layer
that reads their result, and entries of parameters that the attention owns (a column of
a bias table). No label passes through the products between them, so labels are cut
where heads begin and given anew where they end: :class:`Heads` says for one class
where that is, and which attributes count heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MethodType
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..arithmetic.labels import LabelTracer
from ..arithmetic.slices import Kept, take
from ..policy import IN, OUT
from .rule import LayerRule, register_rule, rule_of


@dataclass(frozen=True)
class Heads:
    """Where the heads of one attention class are.

    Args:
        producers (Mapping[str, int]): Layers (paths in the attention) whose output is
            heads, first the one that reads its input. The number says in how many
            parts: channels are ``(parts, heads, channels of a head)``, 3 for a layer
            that makes q, k and v one after the other, 1 for a layer of its own each
            or where a head's q, k and v are side by side.
        consumers (tuple[str, ...]): Layers whose input is ``(heads, channels)``.
        tensors (Mapping[str, int]): Tensors of the attention itself by the axis that
            is ``(heads, any number)``. Those that an instance lacks are ignored.
        totals (tuple[str, ...]): Attributes in proportion to the number of heads.
        count (str): The attribute that is the number of heads.
        forward (Callable | None): Called as ``forward(attention, *args)`` instead of
            the class's own, if that takes the channels of a head from its input or
            uses weights of a layer without calling it. Defaults to None.
        optional (tuple[str, ...]): Producers that an instance may lack.
        per_head (tuple[str, ...]): Layers that run on every head as on an image of its
            own: they stay as they are, and cost as often as there are heads.
    """

    producers: Mapping[str, int]
    consumers: tuple[str, ...] = ('proj',)
    tensors: Mapping[str, int] = field(default_factory=dict)
    totals: tuple[str, ...] = ()
    count: str = 'num_heads'
    forward: Callable[..., Tensor] | None = None
    optional: tuple[str, ...] = ()
    per_head: tuple[str, ...] = ()


class HeadsRule(LayerRule):
    """An attention: a container whose axis is its heads.

    Args:
        cls (type[nn.Module]): The class. Of a subclass with a forward of its own
            nothing is known.
        heads (Heads): Where its heads are.
    """

    whole = False

    def __init__(self, cls: type[nn.Module], heads: Heads) -> None:
        self.cls, self.heads, self.outputs = cls, heads, heads.count

    def slice(self, module: nn.Module, out: Kept, into: Kept) -> dict[str, Any]:
        """What the attention itself holds by heads, and what counts them."""
        count, values = self.out_size(module), self.stand_in(module)
        for name, axis in self.heads.tensors.items():
            tensor = getattr(module, name, None)
            if isinstance(tensor, Tensor):
                places = np.arange(tensor.shape[axis]).reshape(count, -1)
                values[name] = take(tensor, axis, places[out].ravel())
        for name in self.heads.totals:
            values[name] = getattr(module, name) * len(out) // count
        values[self.heads.count] = len(out)
        return values

    def params_per_channel(self, module: nn.Module) -> int:
        """Parameters that the attention itself owns for one head."""
        own = [module._parameters.get(name) for name in self.heads.tensors]
        return sum(p.numel() for p in own if p is not None) // self.out_size(module)

    def stand_in(self, module: nn.Module) -> dict[str, Any]:
        """The forward for any number of heads or input channels, where one is needed.

        Some classes multiply by the weight of a layer that they never call, so that
        whatever the layer computes, e.g. a quantised product, would be passed over.
        """
        forward = self.heads.forward
        return {} if forward is None else dict(forward=MethodType(forward, module))


@dataclass(frozen=True)
class HeadSite:
    """A layer at which heads begin (``side`` is out) or end (in).

    Args:
        attention (str): Path of the attention.
        heads (int): How many it has.
        side (str): Of the layer.
        parts (int): See :class:`Heads`.
    """

    attention: str
    heads: int
    side: str
    parts: int = 1

    def end(self, module: nn.Module, tracer: LabelTracer, x: Tensor) -> None:
        """Label the input of the layer by the heads it is made of."""
        dim = rule_of(module).channel_axis(module, x)
        tracer.emit(x, dim, self._atoms(tracer).repeat_interleave(
            x.shape[dim] // self.heads))

    def begin(self, module: nn.Module, tracer: LabelTracer, out: Tensor) -> None:
        """Tie the output channels of the layer to heads, and end their labels there.

        Args:
            module (nn.Module): The layer that has just run and been followed.
            tracer (LabelTracer): Holds the labels.
            out (Tensor): What it returned.
        """
        labels = tracer.vector(out, rule_of(module).channel_axis(module, out))
        tracer.tie(labels.reshape(self.parts, self.heads, -1),
                   self._atoms(tracer)[:, None])
        tracer.set(out, None)

    def _atoms(self, tracer: LabelTracer) -> Tensor:
        return tracer.block(self.attention, OUT, self.heads).atoms


def register_heads(cls: type[nn.Module], heads: Heads) -> None:
    """Say where the heads of an attention class are.

    A subclass with a forward of its own needs an entry of its own.

    Args:
        cls (type[nn.Module]): The class.
        heads (Heads): Its heads.
    """
    register_rule(cls, HeadsRule(cls, heads))


def heads_rule(module: nn.Module | None) -> HeadsRule | None:
    """The rule of an attention; None for any other module."""
    rule = rule_of(module)
    if isinstance(rule, HeadsRule) and type(module).forward is rule.cls.forward:
        return rule
    return None


def attentions(model: nn.Module) -> dict[str, nn.Module]:
    """Attentions of a model with registered heads, by path.

    Without those whose layers were fused or replaced.
    """
    found = {}
    for name, module in model.named_modules():
        rule = heads_rule(module)
        if rule is not None:
            layers = dict(module.named_modules())
            needed = {*rule.heads.producers, *rule.heads.consumers}
            if layers.keys() >= needed.difference(rule.heads.optional):
                found[name] = module
    return found


def head_sites(model: nn.Module) -> dict[nn.Module, HeadSite]:
    """Layers at which heads begin or end."""
    sites = {}
    for name, module in attentions(model).items():
        rule = rule_of(module)
        count = rule.out_size(module)
        found = {path: HeadSite(name, count, OUT, parts)
                 for path, parts in rule.heads.producers.items()}
        found |= {path: HeadSite(name, count, IN) for path in rule.heads.consumers}
        layers = dict(module.named_modules())
        sites |= {layers[path]: site for path, site in found.items() if path in layers}
    return sites


def layers_per_head(model: nn.Module) -> dict[nn.Module, tuple[str, int]]:
    """Layers that run for every head of an attention: its path, and how many it has."""
    return {
        module.get_submodule(path): (name, rule_of(module).out_size(module))
        for name, module in attentions(model).items()
        for path in rule_of(module).heads.per_head}


def own_tensors(model: nn.Module) -> set[int]:
    """``id`` of every parameter that an attention holds by heads."""
    return {id(getattr(module, name)) for module in attentions(model).values()
            for name in rule_of(module).heads.tensors if name in module._parameters}
