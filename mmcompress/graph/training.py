"""Layers that only training calls: auxiliary heads, seen by following the loss.

Inference never calls them, so they cost no MACs and no unit shrinks their outputs. But
they read features: where a unit takes channels off these, it takes the inputs that the
channels feed off the auxiliary layers, too. Otherwise a slim network could not be
trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from mmengine.logging import print_log
from torch import nn

from ..arithmetic.labels import LabelTracer
from ..errors import CompressionError
from ..kinds import kind_of
from ..layers.dropout import dropouts
from ..layers.norm import batch_norms
from ..layers.rule import rule_of
from ..policy import OUT
from ..surgery.copies import copy_of


def follow_training(
    model: nn.Module, tracer: LabelTracer, layers: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    following: Callable[[nn.Module], AbstractContextManager],
) -> tuple[str, ...]:
    """Follow the labels through the training loss, on top of those of inference.

    Where that fails, nothing is tied and the log says why.

    Args:
        model (nn.Module): The model; only a copy is trained.
        tracer (LabelTracer): Has followed inference.
        layers (Sequence[str]): Layers that inference did not call.
        shapes (Sequence[tuple[int, ...]]): ``(C, H, W)`` to try, in this order.
        following (Callable): From a model to a block in which it hands on labels.

    Returns:
        tuple[str, ...]: Which of ``layers`` the loss called.
    """
    if not layers:
        return ()
    reason = ''
    learner = _learner(model)
    for shape in dict.fromkeys(shapes):
        try:
            with tracer.attempt():
                _follow_loss(learner, shape, following)
        except CompressionError as error:
            reason = str(error)
            break
        except Exception as error:  # any loss may fail in any way of its own
            reason = f'{type(error).__name__}: {error}'
            continue
        called = tuple(n for n in layers if (n, OUT) in tracer.blocks)
        for name in called:  # nothing is saved by fewer
            tracer.pin(tracer.blocks[name, OUT].atoms)
        return called
    print_log(
        f'{len(layers)} layers that inference never calls keep their inputs, the first '
        f'is {layers[0]!r}; if training calls them, a network with fewer channels may '
        f'not be trainable. The loss could not be followed: {reason}', 'current')
    return ()


def _learner(model: nn.Module) -> nn.Module:
    """A copy in training mode, with weights that follow from its structure alone.

    Which layers a loss calls may depend on the weights: it stops at numbers that are
    not finite. A network is rebuilt from its policy before its weights are loaded, and
    must have the same units then.
    """
    learner = copy_of(model).train()
    generator = torch.Generator().manual_seed(0)
    for name, param in learner.named_parameters():
        if param.dim() > 1:
            noise = torch.randn(param.shape, generator=generator)
            value = noise / param[0].numel() ** 0.5
        else:
            value = torch.full(param.shape, float(not name.endswith('bias')))
        param.data.copy_(value)
    norms = batch_norms(learner)
    for norm in norms:
        norm.reset_running_stats()
    # One image may leave norms one value a channel; masks have as many as there are.
    for module in (*norms, *dropouts(learner)):
        module.eval()
    return learner


def _follow_loss(
    model: nn.Module, shape: tuple[int, ...],
    following: Callable[[nn.Module], AbstractContextManager],
) -> None:
    kind = kind_of(model)
    batch = kind.annotated(model, shape)
    with torch.random.fork_rng(devices=[]), kind.fixed_regions(model, shape), \
            following(model):
        torch.default_generator.manual_seed(0)  # regions are sampled, masks dropped
        kind.loss(model, batch)


def reading_params(module: nn.Module) -> int:
    """Parameters of a layer with MACs that go with one channel it reads."""
    rule = rule_of(module)
    return rule.window_size(module) * rule.out_size(module) // rule.groups(module)
