"""From a model to its :class:`ModelGraph`: units, layers and costs."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..arithmetic.labels import LabelTracer, tensors_in
from ..errors import TraceError
from ..layers.attention import (
    HeadSite,
    attentions,
    head_sites,
    layers_per_head,
    own_tensors,
)
from ..layers.multihead import open_attentions
from ..layers.rule import (
    balanced_convs,
    even_convs,
    is_followed,
    is_layer,
    parts_of_layers,
    rule_of,
)
from ..policy import IN, OUT, ChannelUnit, Layer, Member, ModelGraph
from ..surgery.heads import any_number_of_heads
from ..surgery.modes import evaluating
from .balance import balance
from .inputs import run
from .operators import Following
from .training import follow_training, reading_params

SMALL = (64, 128)
"""Sides of the image to trace labels on; channels do not depend on it."""


def fingerprint(model: nn.Module) -> str:
    """Hash of the names and shapes of all parameters and buffers."""
    shapes = [(k, tuple(v.shape)) for k, v in model.state_dict().items()]
    return hashlib.sha256(repr(shapes).encode()).hexdigest()[:16]


def trace(model: nn.Module, input_shape: tuple[int, ...]) -> ModelGraph:
    """Find the channel units and the cost coefficients of a model.

    Two forward passes without gradients: one on a small image follows the labels
    of all channels (:mod:`mmcompress.arithmetic.labels`), one at ``input_shape`` counts
    at how many positions each layer is applied, with the arithmetic of convs and
    linears left out. The model is left as it was, but for the projections of
    ``nn.MultiheadAttention``: they become layers
    (:func:`mmcompress.layers.multihead.open_attentions`), as parameters have no
    channels.

    Args:
        model (nn.Module): Detector, classifier or plain module.
        input_shape (tuple[int, ...]): ``(C, H, W)`` that the costs refer to.

    Returns:
        ModelGraph: Unverified; see :func:`mmcompress.graph.verify`.

    Raises:
        TraceError: The model does not run on such an image, or no unit is found.
    """
    open_attentions(model)
    with inference(model):
        tracer, trace_shape = trace_labels(model, input_shape)
        uses = _count_uses(model, input_shape)
        names = _layer_names(model)
        unvisited = [n for m, n in names.items()
                     if is_layer(m) and m not in uses.positions]
        unseen = [n for n in unvisited
                  if n not in tracer.functional and (n, OUT) not in tracer.blocks]
        auxiliary = follow_training(
            model, tracer, unseen, (trace_shape, tuple(input_shape)),
            partial(_following, tracer=tracer))
        if auxiliary:
            _pin_what_cannot_be_sliced(model, tracer)
            balance(model, tracer)
    units, excluded = _units(
        tracer, {n for m, n in names.items() if is_layer(m) and n not in auxiliary})
    if not units:
        raise TraceError(
            f'{type(model).__name__} has no prunable unit: every channel is tied to '
            'the outputs or to an operator that mixes channels. Operators that were '
            f'not understood: {dict(tracer.unknown) or "none"}.')
    return ModelGraph(
        units=units,
        layers=_layers(uses, names, layers_per_head(model)),
        params=sum(p.numel() for p in model.parameters()),
        norm_params=_params_per_channel(model, auxiliary),
        input_shape=tuple(input_shape),
        fingerprint=fingerprint(model),
        trace_shape=trace_shape,
        excluded=excluded,
        unsupported=dict(uses.other),
        unvisited=tuple(n for n in unvisited if n not in auxiliary),
        auxiliary=auxiliary,
        fixed_macs=uses.fixed_macs,
    )


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every module's own mode comes back."""
    with evaluating(model), torch.no_grad():
        yield


def _layer_names(model: nn.Module) -> dict[nn.Module, str]:
    return {m: n for n, m in model.named_modules() if is_followed(m)}


@contextmanager
def _watched(
    model: nn.Module, call: Callable, without: Container[str] = ()
) -> Iterator[None]:
    """Route every layer with a rule through ``call(module, name, forward, args)``.

    Args:
        model (nn.Module): The model.
        call (Callable): What runs the layers.
        without (Container[str]): Names of layers that run on their own.
    """
    watched = {m: n for m, n in _layer_names(model).items() if n not in without}
    for module, name in watched.items():
        def forward(*args, _m=module, _n=name, _f=module.forward, **kwargs):
            return call(_m, _n, _f, args, kwargs)
        module.forward = forward
    try:
        yield
    finally:
        for module in watched:
            del module.forward


def trace_labels(
    model: nn.Module,
    input_shape: tuple[int, ...],
    during: Callable[[LabelTracer], AbstractContextManager] | None = None,
) -> tuple[LabelTracer, tuple[int, ...]]:
    """Follow the labels of all channels through one forward pass.

    Args:
        model (nn.Module): In evaluation mode, without gradients.
        input_shape (tuple[int, ...]): Largest ``(C, H, W)`` to try.
        during (Callable | None): From the tracer to a context that the forward runs
            in, e.g. one that looks at activations and their labels.

    Returns:
        tuple[LabelTracer, tuple[int, ...]]: The tracer and the shape it ran at.

    Raises:
        TraceError: The model does not run on such an image.
    """
    small = [(input_shape[0], *(min(s, side) for s in input_shape[1:]))
             for side in SMALL]
    for shape in dict.fromkeys([*small, tuple(input_shape)]):
        tracer = LabelTracer(even_convs(model), balanced_convs(model))
        try:
            with _following(model, tracer), \
                    during(tracer) if during else nullcontext():
                outputs = run(model, shape)
        except Exception as error:
            if shape == tuple(input_shape):
                raise TraceError(
                    f'{type(model).__name__} does not run on an image of shape '
                    f'{shape}: {type(error).__name__}: {error}. Set '
                    'compression.input_shape to (C, H, W) that it accepts.'
                ) from error
            print_log(f'Tracing at {shape} failed ({error}); trying a larger image.',
                      'current', level=10)
            continue
        for tensor in tensors_in(outputs):
            tracer.pin(tracer.get(tensor))
        _pin_what_cannot_be_sliced(model, tracer)
        balance(model, tracer)
        return tracer, shape
    raise AssertionError('unreachable: the last shape returns or raises')


@contextmanager
def _following(model: nn.Module, tracer: LabelTracer) -> Iterator[None]:
    """Let the layers and operators of a model hand on labels within the block."""
    sites, by_head = head_sites(model), own_tensors(model)
    tracer.params.update({id(p): (n, p) for n, p in model.named_parameters()
                          if id(p) not in by_head})
    with any_number_of_heads(model), Following(tracer), _watched(
            model, partial(_follow, tracer, sites), parts_of_layers(model)):
        yield


def _follow(
    tracer: LabelTracer, sites: Mapping[nn.Module, HeadSite], module: nn.Module,
    name: str, forward: Callable, args: tuple, kwargs: dict,
) -> Any:
    """Run a layer with a rule, and label what it returns."""
    rule, site = rule_of(module), sites.get(module)
    inner = rule.arranges or (
        not rule.closed and any(map(is_followed, module.children())))
    outer, tracer.arranges = tracer.arranges, rule.arranges
    tracer.paused += not inner
    out = forward(*args, **kwargs)
    tracer.paused -= not inner
    tracer.arranges = outer
    x = args[0] if args else next(iter(kwargs.values()))
    tracer.paused += 1
    if site and site.side == IN:
        site.end(module, tracer, x)
    rule.follow(module, tracer, name, x, out)
    if site and site.side == OUT:
        site.begin(module, tracer, out)
    tracer.paused -= 1
    return out


def _pin_what_cannot_be_sliced(model: nn.Module, tracer: LabelTracer) -> None:
    """Weights that are used by arithmetic, shared or out of reach stay as they are."""
    owners = Counter(id(p) for m in model.modules()
                     for p in m._parameters.values() if p is not None)
    modules = dict(model.named_modules())
    # What an attention holds without an axis of heads stays; the heads may go.
    functional = tracer.functional - attentions(model).keys()
    for (name, _), block in tracer.blocks.items():
        module = modules.get(name)
        if module is None:
            continue
        own = [p for p in module._parameters.values() if p is not None]
        shared = any(owners[id(p)] > 1 for p in own)
        rigid = is_layer(module) and not rule_of(module).resizable(module)
        if name in functional or shared or rigid:
            tracer.pin(block.atoms)


def _units(
    tracer: LabelTracer, layers: Container[str]
) -> tuple[tuple[ChannelUnit, ...], dict[str, str]]:
    """Group the components of atoms into units of channels of equal make-up.

    Args:
        tracer (LabelTracer): What has been followed.
        layers (Container[str]): Of these, one must make the channels of a unit and one
            must read them.
    """
    component = tracer.components()
    blocks = list(tracer.blocks.values())
    owner = np.zeros(len(component), int)
    for i, block in enumerate(blocks):
        owner[block.start:block.start + block.size] = i
    atoms_of: dict[int, list[int]] = defaultdict(list)
    for atom, label in enumerate(component.tolist()):
        if label != component[0]:
            atoms_of[label].append(atom)
    families: dict[tuple[int, ...], list[list[int]]] = defaultdict(list)
    for atoms in atoms_of.values():
        families[tuple(owner[atoms].tolist())].append(atoms)
    units, excluded, used = [], {}, Counter()
    for key, rows in sorted(families.items()):
        makers = [i for i in key if blocks[i].side == OUT and blocks[i].layer in layers]
        if not makers:
            continue
        name = blocks[makers[0]].layer
        used[name] += 1
        name += f'#{used[name]}' if used[name] > 1 else ''
        if not any(blocks[i].side == IN and blocks[i].layer in layers for i in key):
            excluded[name] = 'no layer consumes its channels'
        elif len(rows) == 1:
            excluded[name] = 'all its channels are tied together'
        else:
            units.append(_unit(name, key, np.array(rows), blocks, makers[0]))
    return tuple(units), excluded


def _unit(name: str, key: tuple[int, ...], rows: np.ndarray, blocks: list, maker: int
          ) -> ChannelUnit:
    order = np.array(key)
    rows = rows[np.argsort(rows[:, order == maker].min(axis=1))]
    members = tuple(
        Member(blocks[i].layer, blocks[i].side,
               np.sort(rows[:, order == i] - blocks[i].start, axis=1))
        for i in dict.fromkeys(key))
    return ChannelUnit(name, members, granularity=int((order == maker).sum()))


@dataclass
class _Uses:
    positions: Counter = field(default_factory=Counter)
    calls: Counter = field(default_factory=Counter)
    reads: Counter = field(default_factory=Counter)
    writes: Counter = field(default_factory=Counter)
    other: Counter = field(default_factory=Counter)
    fixed_macs: int = 0


class _ProductWatch(TorchDispatchMode):
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


def _count_uses(model: nn.Module, input_shape: tuple[int, ...]) -> _Uses:
    """Positions at which every layer is applied at the full input size."""
    uses = _Uses()
    watch = _ProductWatch({id(p) for p in model.parameters()})

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

    with any_number_of_heads(model), _watched(model, call), slow_attention(), watch:
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


def _layers(
    uses: _Uses, names: dict[nn.Module, str],
    per_head: Mapping[nn.Module, tuple[str, int]],
) -> tuple[Layer, ...]:
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


def _params_per_channel(
    model: nn.Module, auxiliary: Container[str]
) -> dict[str, int]:
    """Parameters per channel of norms, bare vectors and attentions, by name.

    Of auxiliary layers, whose outputs stay, those that go with a channel they read.
    """
    names = _layer_names(model)
    counts = {name: rule_of(module).params_per_channel(module)
              for module, name in names.items() if not is_layer(module)}
    counts.update({name: reading_params(module)
                   for module, name in names.items() if name in auxiliary})
    for name, param in model.named_parameters():
        counts.update({f'{name}@{axis}': 1 for axis in range(param.dim())})
    counts.update({name: rule_of(module).params_per_channel(module)
                   for name, module in attentions(model).items()})
    return counts
