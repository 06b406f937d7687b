"""Heads of attention as channels of a unit.

A head is rows of the layers that make queries, keys and values, columns of the layer
that reads their result, and entries of parameters that the attention owns (a column of
a bias table). No label passes through the products between them, so labels are cut
where heads begin and given anew where they end: :class:`Heads` says for one class
where that is, and which attributes count heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MethodType
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..arithmetic.labels import LabelTracer
from ..policy import IN, OUT
from .slicing import Kept, overwrite, shadowed, sliced, take


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
    """

    producers: Mapping[str, int]
    consumers: tuple[str, ...] = ('proj',)
    tensors: Mapping[str, int] = field(default_factory=dict)
    totals: tuple[str, ...] = ()
    count: str = 'num_heads'
    forward: Callable[..., Tensor] | None = None


@dataclass(frozen=True)
class Site:
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


_HEADS: dict[type, Heads] = {}


def register_heads(cls: type[nn.Module], heads: Heads) -> None:
    """Say where the heads of an attention class are.

    A subclass with a forward of its own needs an entry of its own.

    Args:
        cls (type[nn.Module]): The class.
        heads (Heads): Its heads.
    """
    _HEADS[cls] = heads
    sliced.register(cls, _sliced)


def heads_of(module: nn.Module | None) -> Heads | None:
    """What is registered for an attention; None for any other module."""
    for cls in type(module).__mro__:
        if cls in _HEADS:
            return _HEADS[cls] if type(module).forward is cls.forward else None
    return None


def attentions(model: nn.Module) -> dict[str, nn.Module]:
    """Attentions of a model with registered heads, by path.

    Without those whose layers were fused or replaced.
    """
    found = {}
    for name, module in model.named_modules():
        heads = heads_of(module)
        if heads is not None:
            layers = dict(module.named_modules())
            if layers.keys() >= {*heads.producers, *heads.consumers}:
                found[name] = module
    return found


# -- slicing -----------------------------------------------------------------
def _sliced(module: nn.Module, out: Kept, into: Kept) -> dict[str, Any]:
    """Attributes of an attention with some heads kept."""
    heads, count = heads_of(module), number_of_heads(module)
    values = stand_in(module)
    for name, axis in heads.tensors.items():
        tensor = getattr(module, name, None)
        if isinstance(tensor, Tensor):
            places = np.arange(tensor.shape[axis]).reshape(count, -1)
            values[name] = take(tensor, axis, places[out].ravel())
    for name in heads.totals:
        values[name] = getattr(module, name) * len(out) // count
    values[heads.count] = len(out)
    return values


def number_of_heads(module: nn.Module) -> int:
    """How many heads an attention has."""
    return getattr(module, heads_of(module).count)


def stand_in(module: nn.Module) -> dict[str, Any]:
    """The forward for any number of heads or input channels, where one is needed."""
    forward = heads_of(module).forward
    return {} if forward is None else dict(forward=MethodType(forward, module))


def params_per_head(module: nn.Module) -> int:
    """Parameters that the attention itself owns for one head."""
    heads = heads_of(module)
    own = [module._parameters.get(name) for name in heads.tensors]
    return sum(p.numel() for p in own if p is not None) // number_of_heads(module)


# -- the class's forward -----------------------------------------------------
@contextmanager
def any_number_of_heads(model: nn.Module) -> Iterator[None]:
    """Let every attention run a forward that calls its layers, for a while."""
    with shadowed((module, stand_in(module)) for module in attentions(model).values()):
        yield


def call_layers(model: nn.Module) -> None:
    """Let every attention call its layers from now on; no output changes.

    Some multiply by the weight of a layer that they never call, so that whatever the
    layer computes, e.g. a quantised product, would be passed over.
    """
    for module in attentions(model).values():
        overwrite(module, stand_in(module))


# -- labels --------------------------------------------------------------------
def head_sites(model: nn.Module) -> dict[nn.Module, Site]:
    """Layers at which heads begin or end."""
    sites = {}
    for name, module in attentions(model).items():
        heads, count = heads_of(module), number_of_heads(module)
        found = {path: Site(name, count, OUT, parts)
                 for path, parts in heads.producers.items()}
        found |= {path: Site(name, count, IN) for path in heads.consumers}
        sites |= {module.get_submodule(path): site for path, site in found.items()}
    return sites


def own_tensors(model: nn.Module) -> set[int]:
    """``id`` of every parameter that an attention holds by heads."""
    return {id(getattr(module, name)) for module in attentions(model).values()
            for name in heads_of(module).tensors if name in module._parameters}


def _axis(module: nn.Module) -> int:
    return -1 if isinstance(module, nn.Linear) else 1


def _atoms(site: Site, tracer: LabelTracer) -> Tensor:
    return tracer.block(site.attention, OUT, site.heads).atoms


def end_heads(site: Site, module: nn.Module, tracer: LabelTracer, x: Tensor) -> None:
    """Label the input of a layer by the heads it is made of."""
    dim = _axis(module)
    shape = [1] * x.dim()
    shape[dim] = x.shape[dim]
    atoms = _atoms(site, tracer).repeat_interleave(x.shape[dim] // site.heads)
    tracer.set(x, atoms.reshape(shape))


def begin_heads(site: Site, module: nn.Module, tracer: LabelTracer, out: Tensor
                ) -> None:
    """Tie the output channels of a layer to heads, and end their labels there.

    Args:
        site (Site): Says which heads.
        module (nn.Module): The layer that has just run and been followed.
        tracer (LabelTracer): Holds the labels.
        out (Tensor): What it returned.
    """
    labels = tracer.vector(out, _axis(module)).reshape(site.parts, site.heads, -1)
    tracer.tie(labels, _atoms(site, tracer)[:, None])
    tracer.set(out, None)
