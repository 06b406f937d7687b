"""Preparing a plain module for a search."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..data.items import as_batch, read_batches
from ..errors import CompressionError
from ..evaluation.distance import REFERENCES
from ..evaluation.dynamic_bn import MODES
from ..evaluation.function import FunctionEvaluator
from ..evaluation.policy_evaluator import RULES
from ..kinds import declare_kind
from ..mutators.settings import check_compression
from ..options import Count, Natural, checking
from ..session import Session, find_units, open_session
from .functions import FunctionKind


@checking
def prepare(
    model: nn.Module,
    inputs: Any,
    calibration: Iterable = (),
    score: Callable[[nn.Module], float] | None = None,
    score_name: str | None = None,
    *,
    channel: Mapping[str, Any] | None = None,
    quant: Mapping[str, Any] | None = None,
    forward: Callable[[nn.Module, Any], Any] | None = None,
    loss: Callable[[nn.Module, Any], Tensor] | None = None,
    train: Iterable = (),
    images: Count = 512,
    rule: Literal[RULES] = 'greater',
    dynamic_bn: Literal[MODES] = 'paired',
    seed: Natural = 0,
    **mutators: Mapping[str, Any],
) -> Session:
    """Trace a module, verify its channel units, and make it ready to be searched.

    The channels of ``model`` are sorted by importance, in place; what it computes and
    its state-dict keys stay. Nothing of OpenMMLab is needed.

    Args:
        model: Any ``nn.Module`` with its weights loaded.
        inputs: A batch that the model can run on, as a loader would give it. For images
            it says the size that costs refer to:
            ``inputs=torch.zeros(1, 3, 224, 224)``.
        calibration: Batches without labels, on which ranges of activations and batch
            norms are calibrated: ``calibration=loader``. Of tuples, the first entry is
            what the model takes.
        score: From the model, which acts as the policy, to a number that is better if
            higher: ``score=lambda net: top1(net, held_out)``. Without one, policies are
            scored by how little their outputs differ from the dense ones on every
            second calibration batch.
        score_name: The score's name and version: ``score_name='top1-v1'``. Searches
            continue each other if it is the same, so change it with the score.
        channel: Settings of :class:`ChannelMutator`:
            ``channel=dict(importance='l2', divisor=8)``. Widths are searched unless
            only ``quant`` is given.
        quant: Settings of :class:`QuantMutator`, which make bits part of the search:
            ``quant=dict(bits=[4, 8])``.
        forward: For a module that takes more than one tensor:
            ``forward=lambda net, batch: net(batch['image'], mask=batch['mask'])``.
            ``batch`` is what the loader gives.
        loss: The mean training loss of a batch, for gradient prices and importance and
            for fine-tuning: ``loss=lambda net, batch: cross_entropy(net(batch[0]),
            batch[1])``.
        train: Labelled batches for it: ``train=loader``.
        images: At most so many samples of each loader are read and kept in memory:
            ``images=256``.
        rule: ``rule='less'`` if a lower score is better.
        dynamic_bn: How batch norms follow a policy: ``dynamic_bn='off'`` keeps the
            stored statistics; see :mod:`mmcompress.evaluation.dynamic_bn`.
        seed: Of everything that is drawn: ``seed=1``.
        mutators: Further registered mutators by any name:
            ``clip=dict(type='MyMutator')``.

    Returns:
        Session: For :func:`mmcompress.searchers`.

    Raises:
        CompressionError: An argument is missing or does not fit.
        TraceError: The model does not run on ``inputs``, or has no prunable unit.

    Example:
        >>> session = mmc.prepare(net, inputs=torch.zeros(1, 3, 32, 32),
        ...                       calibration=loader, score=top1, score_name='top1-v1')
        >>> session
        Session of ResNet: 12 channel units govern 98.2% of the MACs ...
    """
    if score is not None and not score_name:
        raise CompressionError(
            "A score needs a name that changes with it, e.g. score_name='top1-v1': "
            'studies are told apart by it.')
    settings = dict(mutators)
    settings |= {} if channel is None else dict(channel=dict(channel))
    settings |= {} if quant is None else dict(quant=dict(quant))
    check_compression(settings)
    first = next(model.parameters(), None)
    device = torch.device('cpu') if first is None else first.device
    example = as_batch(inputs, device)
    structured = forward is not None or not example.inputs.is_floating_point()
    declare_kind(model, FunctionKind(example if structured else None, forward, loss))
    model.eval()
    graph = find_units(model, tuple(example.inputs.shape[1:]))
    batches = read_batches(calibration, device, images)
    labelled = read_batches(train, device, images)
    metric = score_name if score else score_name or 'distance'
    if score is None and metric not in ('loss', *REFERENCES):
        raise CompressionError(
            f'score_name={metric!r} needs score=..., a function of the model.')
    evaluator = FunctionEvaluator(
        metric, score, labelled, dynamic_bn=dynamic_bn if batches else 'off',
        rule=rule, seed=seed)
    scored = labelled if metric == 'loss' else batches[1::2] if score is None else []
    evaluator.keep(model, scored or batches, batches[::2] if score is None else batches)
    priced = sum(len(batch.inputs) for batch in labelled or evaluator.calibration)
    source = dict(type='GradientPrices') if loss else dict(
        type='MeasuredPrices', measure='distance')
    if priced:
        source['images'] = priced
    return open_session(model, graph, evaluator, settings, source)
