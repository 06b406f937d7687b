"""Checks that a real network must pass before a number about it is believed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..arithmetic.labels import tensors_in
from ..costs import Costs, CostTable
from ..graph import trace, verify
from ..graph.inputs import run
from ..graph.uses import slow_attention
from ..graph.verify import TOLERANCE, audible, lively, peak_error
from ..layers.rule import is_layer, rule_of
from ..mutators import ChannelMutator
from ..policy import Policy, SearchSpace
from ..surgery.hooks import hooked
from ..surgery.materialise import materialise
from ..surgery.precision import precisely


@dataclass(frozen=True)
class NetworkReport:
    """What was measured on one network. Errors are relative to the outputs.

    Args:
        units, left_out (int): Units verified, and units that failed.
        governed (float): Share of the MACs that the units govern.
        trace_seconds, verify_seconds (float): Time of the two steps.
        permuted (float): Error after sorting all channels.
        zeroed (float): Policy forward against zeroed-channel forward.
        materialised (float): Policy forward against the slim model.
        macs, true_macs (int): Of the slim model: analytic, counted by torch.
        params, true_params (int): Likewise.
    """

    units: int
    left_out: int
    governed: float
    trace_seconds: float
    verify_seconds: float
    permuted: float
    zeroed: float
    materialised: float
    macs: int
    true_macs: int
    params: int
    true_params: int


def check_network(
    model: nn.Module, input_shape: tuple[int, ...], seed: int = 0,
    mutator: ChannelMutator | None = None,
) -> NetworkReport:
    """Trace, verify, sort, prune at random, materialise and count a network.

    Args:
        model (nn.Module): The dense network; its channels are sorted in place.
        input_shape (tuple[int, ...]): ``(C, H, W)``.
        seed (int): Seed of the policy.
        mutator (ChannelMutator | None): It is left prepared, for further checks.
            Defaults to a new one with divisor 4.
    """
    with torch.no_grad():  # Else sorting would give other channels this noise.
        for module, name, value in audible(model):
            getattr(module, name).copy_(value)
    model.eval()
    start = time.perf_counter()
    traced = trace(model, input_shape)
    middle = time.perf_counter()
    graph = verify(model, traced)
    end = time.perf_counter()
    mutator = mutator or ChannelMutator(divisor=4)
    dense = precise_outputs(model, graph.trace_shape)
    mutator.prepare(model, graph)
    permuted = error(precise_outputs(model, graph.trace_shape), dense)
    space = SearchSpace.from_graph(graph, **mutator.space_options)
    policy = random_policy(space, seed)
    with mutator.acting(policy):
        plain = outputs(model, graph.trace_shape)
    slim = materialise(model, graph, policy)
    slim.eval()
    costs = Costs(CostTable.from_graph(graph), space).of(policy)
    return NetworkReport(
        units=len(graph.units), left_out=len(graph.excluded) - len(traced.excluded),
        governed=graph.governed, trace_seconds=middle - start,
        verify_seconds=end - middle, permuted=permuted,
        zeroed=zeroed_error(mutator, policy),
        materialised=error(outputs(slim, graph.trace_shape), plain),
        macs=round(costs['macs']), true_macs=count_macs(slim, input_shape),
        params=round(costs['params']),
        true_params=sum(p.numel() for p in slim.parameters()))


def random_policy(space: SearchSpace, seed: int = 0) -> Policy:
    """Any policy of the space, every column drawn evenly."""
    rng = np.random.default_rng(seed)
    return space.decode(np.array([rng.choice(c) for c in space.choices]))[0]


def outputs(model: nn.Module, shape: tuple[int, ...]) -> list[Tensor]:
    """Raw outputs on a fixed random image."""
    with torch.no_grad():
        return tensors_in(run(model, shape))


def precise_outputs(model: nn.Module, shape: tuple[int, ...]) -> list[Tensor]:
    """Outputs in float64, where the order of a sum does not show."""
    def lively_outputs() -> list[Tensor]:
        with lively(model, shape) as found:
            return found

    found = precisely(model, lively_outputs)
    return lively_outputs() if found is None else found


def zeroed_error(mutator: ChannelMutator, policy: Policy) -> float:
    """Error of the policy forward against the zeroed-channel forward.

    In float32; if that rounds to more than is allowed, in float64 unless the model
    insists on float32.
    """
    model, shape = mutator.model, mutator.graph.trace_shape
    removed = mutator.selection.removed(mutator.selection.of_policy(policy))

    def measure() -> float:
        with lively(model, shape, removed) as reference, mutator.acting(policy):
            return error(outputs(model, shape), reference)

    value = measure()
    if value <= TOLERANCE:
        return value
    precise = precisely(model, measure)
    return value if precise is None else precise


def error(left: list[Tensor], right: list[Tensor]) -> float:
    """Largest relative error over all outputs."""
    assert [x.shape for x in left] == [x.shape for x in right]
    return max(peak_error(a, b) for a, b in zip(left, right)
               if b.is_floating_point() and b.numel())


def count_macs(model: nn.Module, input_shape: tuple[int, ...]) -> int:
    """MACs of convs and linears as torch's FlopCounterMode counts them.

    It knows no deformable convs: these are asked for theirs.
    """
    hidden: list[int] = []

    def ask(module: nn.Module, _: tuple, out: Tensor) -> None:
        hidden.append(rule_of(module).hidden_macs(module, out))

    layers = list(filter(is_layer, model.modules()))
    counter = _LayerProducts(model)
    inside = {step: dict.fromkeys(layers, partial(counter.move, by=step))
              for step in (1, -1)}
    with torch.no_grad(), slow_attention(), counter, \
            hooked(before=inside[1], after=inside[-1]), \
            hooked(after=dict.fromkeys(layers, ask)):
        run(model, input_shape, boxes=None)
    aten = torch.ops.aten
    flops = counter.get_flop_counts()['Global']
    products = sum(flops.get(op, 0) for op in (aten.convolution, aten.mm, aten.addmm))
    return products // 2 + sum(hidden)


class _LayerProducts(FlopCounterMode):
    """Leaves out products of two activations (dynamic convs, mask prototypes).

    Args:
        model (nn.Module): Products inside its layers and with its parameters count.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(display=False)
        self.params = {id(p) for p in model.parameters()}
        self.inside = 0

    def move(self, *_: object, by: int) -> None:
        """Note that a layer begins (1) or ends (-1)."""
        self.inside += by

    def _count_flops(self, func_packet, out, args, kwargs):
        tensors = [x for x in args if isinstance(x, Tensor)]
        owned = any(id(x if x._base is None else x._base) in self.params
                    for x in tensors)
        if not (self.inside or owned):
            return out
        return super()._count_flops(func_packet, out, args, kwargs)
