"""From a model to its :class:`ModelGraph`: units, layers and costs."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from torch import nn

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
from ..policy import IN, OUT, ChannelUnit, Member, ModelGraph
from ..surgery.heads import any_number_of_heads
from ..surgery.modes import evaluating
from .balance import balance
from .inputs import run
from .operators import Following
from .training import follow_training, reading_params
from .uses import count_uses, layers_of
from .watching import layer_names, watched

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
        uses = count_uses(model, input_shape)
        names = layer_names(model)
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
        layers=layers_of(uses, names, layers_per_head(model)),
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
    with any_number_of_heads(model), Following(tracer), watched(
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


def _params_per_channel(
    model: nn.Module, auxiliary: Container[str]
) -> dict[str, int]:
    """Parameters per channel of norms, bare vectors and attentions, by name.

    Of auxiliary layers, whose outputs stay, those that go with a channel they read.
    """
    names = layer_names(model)
    counts = {name: rule_of(module).params_per_channel(module)
              for module, name in names.items() if not is_layer(module)}
    counts.update({name: reading_params(module)
                   for module, name in names.items() if name in auxiliary})
    for name, param in model.named_parameters():
        counts.update({f'{name}@{axis}': 1 for axis in range(param.dim())})
    counts.update({name: rule_of(module).params_per_channel(module)
                   for name, module in attentions(model).items()})
    return counts
