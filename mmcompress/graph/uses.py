"""How often the layers of a model are applied, on how much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..layers.rule import rule_of
from ..policy import Layer
from ..surgery.heads import any_number_of_heads
from .inputs import run
from .watching import watched


@dataclass
class Uses:
    """What running a model has shown.

    Attributes:
        positions (Counter[nn.Module]): At how many positions each layer is applied.
        calls (Counter[nn.Module]): How often it is called.
        reads, writes (Counter[nn.Module]): Elements per channel of its largest input
            and output.
        other (Counter[str]): Calls of products of two activations, by operator.
        fixed_macs (int): MACs of products with parameters that no layer computes.
    """

    positions: Counter = field(default_factory=Counter)
    calls: Counter = field(default_factory=Counter)
    reads: Counter = field(default_factory=Counter)
    writes: Counter = field(default_factory=Counter)
    other: Counter = field(default_factory=Counter)
    fixed_macs: int = 0


class ProductWatch(TorchDispatchMode):
    """Counts products that no layer accounts for.

    Args:
        params (set[int]): ``id`` of every parameter. Products with one of them are
            counted in MACs, others (of two activations) by their calls.
    """

    def __init__(self, params: set[int]) -> None:
        super().__init__()
        self.params = params
        self.macs = 0
        self.other: Counter = Counter()
        self.paused = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix('aten::')
        product = 'attention' in name or name in (
            'mm', 'bmm', 'addmm', 'baddbmm', 'convolution', 'addbmm')
        if not product or self.paused:
            return out
        if name == 'convolution' and self._is_param(args[1]):
            outer = args[0] if args[6] else out  # transposed
            self.macs += outer.numel() * args[1][0].numel()
        elif name in ('mm', 'addmm') and self._is_param(args[-1]):
            self.macs += out.numel() * args[-2].shape[-1]
        else:
            self.other[name] += 1
        return out

    def _is_param(self, tensor: Tensor) -> bool:
        base = tensor if tensor._base is None else tensor._base
        return id(base) in self.params


def count_uses(model: nn.Module, input_shape: tuple[int, ...]) -> Uses:
    """Positions at which every layer is applied at the full input size."""
    uses = Uses()
    watch = ProductWatch({id(p) for p in model.parameters()})

    def call(module, name, forward, args, kwargs):
        x = args[0] if args else next(iter(kwargs.values()))
        rule = rule_of(module)
        out = rule.output(module, x)
        if out is None:
            watch.paused += bool(rule.kind)
            out = forward(*args, **kwargs)
            watch.paused -= bool(rule.kind)
        if rule.kind:
            read = x.numel() // rule.in_size(module)
            written = out.numel() // rule.out_size(module)
            uses.positions[module] += rule.positions(read, written)
            uses.calls[module] += 1
            uses.reads[module] = max(uses.reads[module], read)
            uses.writes[module] = max(uses.writes[module], written)
        return out

    with any_number_of_heads(model), watched(model, call), slow_attention(), watch:
        run(model, input_shape, boxes=None)
    uses.other, uses.fixed_macs = watch.other, watch.macs
    return uses


@contextmanager
def slow_attention() -> Iterator[None]:
    """Keep attentions of torch from fused operators, which hide products."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def layers_of(
    uses: Uses, names: dict[nn.Module, str],
    per_head: Mapping[nn.Module, tuple[str, int]],
) -> tuple[Layer, ...]:
    """The layers in the order in which they run.

    Args:
        uses (Uses): What :func:`count_uses` found.
        names (dict[nn.Module, str]): Their paths.
        per_head (Mapping): See :func:`mmcompress.layers.attention.layers_per_head`.
    """
    layers = []
    for module, positions in uses.positions.items():
        rule = rule_of(module)
        attention, heads = per_head.get(module, ('', 1))
        layers.append(Layer(
            name=names[module],
            kind=rule.kind,
            out_channels=rule.out_size(module),
            in_channels=rule.in_size(module),
            groups=rule.groups(module),
            kernel=rule.window_size(module),
            has_bias=rule.has_bias(module),
            positions=positions,
            calls=uses.calls[module],
            reads=uses.reads[module],
            writes=uses.writes[module],
            attention=attention,
            heads=heads,
        ))
    return tuple(layers)
