"""Per-sample inner products of gradients with perturbations, without the gradients.

For a layer ``y = W * x`` and one sample n, the gradient of its loss for the weight is
``g[n] = sum over positions of gy[n] x[n]``. What prices need is not g itself but
``<dW, g[n]>`` for a few perturbations dW, and that equals ``<x[n], pull(gy[n], dW)>``,
where ``pull`` is the layer's backward pass to its input with dW in place of its
weight. One such pass per perturbation serves a whole batch, apart for every sample
and every input channel, and no gradient of a weight is ever stored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from ..layers.rule import rule_of
from ..surgery.hooks import hooked


@dataclass(frozen=True)
class Probe:
    """What to perturb in one layer.

    Args:
        removal (bool): Whether input channels may go.
        weights (Mapping[int, Tensor]): By weight bits, ``Q_b(W) - W``.
        activations (Mapping[int, Callable]): By activation bits, a function from
            the input of the layer to its quantised self.
    """

    removal: bool = False
    weights: Mapping[int, Tensor] = field(default_factory=dict)
    activations: Mapping[int, Callable[[Tensor], Tensor]] = field(default_factory=dict)


@dataclass
class Products:
    """Inner products with the gradient of each sample's loss, summed over calls.

    Args:
        removal (Tensor): ``(N, C_in)``: minus the weights on an input channel.
        weights (dict[int, Tensor]): ``(N, C_in)`` by weight bits.
        activations (dict[int, Tensor]): ``(N,)`` by activation bits.
    """

    removal: Tensor | float = 0.0
    weights: dict[int, Tensor | float] = field(
        default_factory=lambda: defaultdict(float))
    activations: dict[int, Tensor | float] = field(
        default_factory=lambda: defaultdict(float))


def per_sample_products(
    model: nn.Module, probes: Mapping[str, Probe], inputs: Tensor,
    loss: Callable[[Tensor], Tensor],
) -> dict[str, Products]:
    """Run one batch forward and backward.

    Memory: the activations of one batch, as in training, and two tensors of the size
    of the largest of them.

    Args:
        model (nn.Module): In evaluation mode, so that samples do not mix.
        probes (Mapping[str, Probe]): By layer name.
        inputs (Tensor): ``(N, C, H, W)``.
        loss (Callable): From the inputs to the sum of the samples' losses.

    Returns:
        dict[str, Products]: By layer that took part in the loss, on the CPU.
    """
    found: dict[str, Products] = defaultdict(Products)
    with _probed(model, probes, found), _frozen(model), torch.enable_grad():
        # The graph hangs on the image: gradients of weights are not computed.
        loss(inputs.detach().clone().requires_grad_(True)).backward()
    return {name: Products(**tree_map_only(Tensor, Tensor.cpu, vars(products)))
            for name, products in found.items()}


def _probed(
    model: nn.Module, probes: Mapping[str, Probe], found: dict[str, Products]
) -> AbstractContextManager[None]:
    """Hook every layer: when the gradient of its output arrives, measure."""
    modules = dict(model.named_modules())

    def after(name: str, module: nn.Module, args: tuple, output: Tensor) -> None:
        if output.requires_grad:
            x = args[0].detach()
            output.register_hook(
                lambda gy: _measure(module, probes[name], x, gy, found[name]))

    return hooked(after={modules[name]: partial(after, name) for name in probes})


@torch.no_grad()
def _measure(
    module: nn.Module, probe: Probe, x: Tensor, gy: Tensor, out: Products
) -> None:
    rule = rule_of(module)
    axis = rule.channel_axis(module, x)
    places = [i for i in range(1, x.dim()) if i != axis]

    def per_channel(product: Tensor) -> Tensor:
        return product.sum(places) if places else product

    if probe.removal or probe.activations:
        gx = rule.pull(module, module.weight, x, gy)
        if probe.removal:
            out.removal = out.removal - per_channel(x * gx)
        for bits, quantise in probe.activations.items():
            change = (quantise(x) - x).mul_(gx).flatten(1).sum(1)
            out.activations[bits] = out.activations[bits] + change
    for bits, change in probe.weights.items():
        product = per_channel(x * rule.pull(module, change, x, gy))
        out.weights[bits] = out.weights[bits] + product


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """No gradients of parameters within the block."""
    flags = [(p, p.requires_grad) for p in model.parameters()]
    for parameter, _ in flags:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
