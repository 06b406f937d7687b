"""Verified or left out: removing channels by slicing equals zeroing them.

The zeroed reference is the dense network in which every layer that consumes a
removed channel sees zeros there. A missed or misplaced member makes the sliced
network crash or differ. Where two channels are confused of which both stay, it does
not: that shows when the channels are reordered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..arithmetic.labels import tensors_in
from ..errors import TraceError
from ..layers.norm import batch_norms
from ..layers.rule import rule_of
from ..policy import IN, OUT, ModelGraph
from ..surgery.hooks import hooked
from ..surgery.modes import evaluating
from ..surgery.precision import precisely
from ..surgery.selection import Selection
from ..surgery.shadow import Shadow, shadowed
from .inputs import run

TOLERANCE = 1e-4
"""Largest relative error allowed; see :func:`peak_error`."""


def verify(
    model: nn.Module, graph: ModelGraph, seed: int = 0, tolerance: float = TOLERANCE
) -> ModelGraph:
    """Check every unit by a real forward; leave out those that fail.

    Every unit keeps a random half of its channels, then it has all of them in a random
    order; all units together first. If they fail, they are halved until every unit
    that fails alone is found. Such a unit is logged at WARNING with its reason.

    Args:
        model (nn.Module): The dense model; left as it was.
        graph (ModelGraph): What tracing found.
        seed (int): Seed of the channels kept, and of the order.
        tolerance (float): See :data:`TOLERANCE`.

    Returns:
        ModelGraph: The graph with the verified units only.

    Raises:
        TraceError: No unit passes, or units that pass alone fail together.
    """
    rng = np.random.default_rng(seed)
    picks = {u.name: np.sort(rng.choice(u.width, -(-u.width // 2), replace=False))
             for u in graph.units}
    orders = {u.name: rng.permutation(u.width) for u in graph.units}
    selection = Selection(model, graph)

    def check(names: Sequence[str]) -> str:
        return failure(model, selection, {n: picks[n] for n in names},
                       {n: orders[n] for n in names}, tolerance)

    together = check(list(picks))
    failed = _culprits(list(picks), together, check) if together else {}
    for name, reason in failed.items():
        print_log(f'Unit {name!r} ({graph.unit(name).width} channels) is left out: '
                  f'{reason}', 'current', level=30)
    checked = graph.without(failed)
    if not checked.units:
        raise TraceError(
            f'None of the {len(graph.units)} units of {type(model).__name__} '
            f'passed verification; the first failed because: '
            f'{next(iter(failed.values()))}')
    if failed:
        together = check([u.name for u in checked.units])
    if together:
        raise TraceError(f'Units that can be pruned alone fail together: {together}')
    return checked


def _culprits(
    names: Sequence[str], reason: str, check: Callable[[Sequence[str]], str]
) -> dict[str, str]:
    """Units that fail alone, with their reasons, of a group that fails."""
    if len(names) == 1:
        return {names[0]: reason}
    found = {}
    for half in (names[:len(names) // 2], names[len(names) // 2:]):
        wrong = check(half)
        if wrong:
            found.update(_culprits(half, wrong, check))
    return found


def failure(
    model: nn.Module, selection: Selection, channels: Mapping[str, np.ndarray],
    order: Mapping[str, np.ndarray], tolerance: float,
) -> str:
    """Slice and reorder some units; if they seem to fail, once more in float64.

    In float32 a deep network may round to more than the tolerance, and differently
    with every number of threads.

    Args:
        model (nn.Module): The dense model.
        selection (Selection): Of that model.
        channels (Mapping[str, np.ndarray]): Kept channels of the units.
        order (Mapping[str, np.ndarray]): Their channels in another order.
        tolerance (float): See :data:`TOLERANCE`.

    Returns:
        str: What went wrong; empty if nothing did.
    """
    def measure() -> str:
        return (compare(model, selection, channels, tolerance)
                or compare_reordered(model, selection, order, tolerance))

    with torch.no_grad():
        reason = measure()
        precise = precisely(model, measure) if reason else ''
    return reason if precise is None else precise


def compare(
    model: nn.Module, selection: Selection, channels: Mapping[str, np.ndarray],
    tolerance: float = TOLERANCE,
) -> str:
    """Compare the sliced with the zeroed network, both lively.

    Returns:
        str: Empty if they agree, otherwise what went wrong.
    """
    shape = selection.graph.trace_shape
    with lively(model, shape, selection.removed(channels)) as reference:
        try:
            outputs = _outputs_with(model, shape, selection.values(channels))
        except Exception as error:
            return f'the sliced network does not run: {type(error).__name__}: {error}'
    return difference(outputs, reference, tolerance)


def compare_reordered(
    model: nn.Module, selection: Selection, order: Mapping[str, np.ndarray],
    tolerance: float = TOLERANCE,
) -> str:
    """Compare the network with itself, its channels in another order.

    Returns:
        str: Empty if they agree, otherwise what went wrong.
    """
    shape = selection.graph.trace_shape
    with lively(model, shape) as reference:
        outputs = _outputs_with(model, shape, selection.reordered(order))
    wrong = difference(outputs, reference, tolerance)
    return wrong and f'with its channels reordered, {wrong}'


def _outputs_with(
    model: nn.Module, shape: tuple[int, ...],
    values: Iterable[tuple[nn.Module, dict[str, Any]]],
) -> list[Tensor]:
    """Outputs while modules have other attributes."""
    with shadowed(values):
        return tensors_in(run(model, shape))


def difference(
    outputs: list[Tensor], reference: list[Tensor], tolerance: float
) -> str:
    """Describe the first output that disagrees; empty if all agree."""
    if len(outputs) != len(reference):
        return f'{len(outputs)} outputs instead of {len(reference)}'
    for i, (out, ref) in enumerate(zip(outputs, reference)):
        if out.shape != ref.shape:
            return f'output {i} has shape {tuple(out.shape)}, not {tuple(ref.shape)}'
        if not ref.is_floating_point() or ref.numel() == 0:
            continue
        error = peak_error(out, ref)
        if not error <= tolerance:
            return f'output {i} differs by {error:.1e} (allowed {tolerance:.0e})'
    return ''


def peak_error(out: Tensor, reference: Tensor) -> float:
    """Largest difference over the root mean square of the reference."""
    power = reference.square().mean().sqrt().item()
    return (out - reference).abs().max().item() / max(power, 1e-6)


@contextmanager
def zeroed(
    model: nn.Module, removed: Mapping[str, Mapping[str, np.ndarray]]
) -> Iterator[None]:
    """Leave the removed positions out of every layer that reads or mixes them."""
    modules = dict(model.named_modules())
    forwards = []
    for layer, sides in removed.items():
        module = modules.get(layer)
        if rule := rule_of(module):
            # A layer leaves out what it reads, a norm what it passes on.
            gone = sides.get(IN if rule.kind else OUT)
            forward = None if gone is None else rule.mask(module, gone)
            if forward:
                forwards.append((module, dict(forward=forward)))
    with shadowed(forwards):
        yield


@contextmanager
def lively(
    model: nn.Module, shape: tuple[int, ...],
    removed: Mapping[str, Mapping[str, np.ndarray]] | None = None,
) -> Iterator[list[Tensor]]:
    """Evaluation mode with weights and statistics that hide no mistake.

    Zero-initialised last norms of residual branches and layer scales of 1e-6 make
    whole branches invisible in the outputs; next to a constant prior bias of -4.6
    the signal of an untrained head drowns in rounding; and in an untrained network
    the signal decays from layer to layer unless batch norms know its statistics:
    those of the network in which channels are removed.
    Everything is put back afterwards.

    Args:
        model (nn.Module): Any model.
        shape (tuple[int, ...]): ``(C, H, W)`` of the image it is compared on.
        removed (Mapping | None): Positions to zero for a first run; see
            :func:`zeroed`. Defaults to None: nowhere.

    Yields:
        list[Tensor]: The outputs of that run.
    """
    with evaluating(model):
        shadows = _without_vanishing(model)
        take = partial(_take_statistics, shadows=shadows)
        try:
            with torch.no_grad(), zeroed(model, removed or {}), \
                    hooked(before=dict.fromkeys(batch_norms(model), take)):
                reference = tensors_in(run(model, shape))
            yield reference
        finally:
            for shadow in reversed(shadows):
                shadow.lift()


def _without_vanishing(model: nn.Module) -> list[Shadow]:
    return [Shadow(module, {name: value})
            for module, name, value in audible(model)]


def audible(model: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """Yield module, name and new values of parameters that hide what is wrong."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        for name, param in module._parameters.items():
            if param is None or param.numel() == 0:
                continue
            low, high = param.min().item(), param.max().item()
            prior = name == 'bias' and low == high != 0
            vanishing = name != 'bias' and max(abs(low), abs(high)) < 1e-3
            if prior or vanishing:
                noise = torch.rand(param.shape, generator=generator) * 0.2 + 0.1
                fan_in = param[0].numel() if param.dim() else 1
                noise = noise / max(1, fan_in) ** 0.5
                yield module, name, noise.to(param)


def _take_statistics(module: nn.Module, args: tuple, shadows: list[Shadow]) -> None:
    """Let a batch norm scale its first input, as a whole, to unit power."""
    if 'running_mean' in module.__dict__:
        return
    # The mean stays in: subtracting it from a nearly constant map would amplify
    # rounding to the size of the signal. So would scaling every channel by itself
    # where a map has few places: those that happen to be small, norm after norm.
    x = args[0]
    power = x.new_full((x.shape[1],), x.square().mean().clamp_min(1e-8).item())
    shadows.append(Shadow(module, dict(
        running_mean=torch.zeros_like(power), running_var=power)))
