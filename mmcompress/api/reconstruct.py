"""The network of a policy, repaired without training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.images import Batch
from ..data.items import read_batches
from ..errors import DataError
from ..evaluation.dynamic_bn import pair, recalibrate
from ..graph import trace
from ..kinds import declare_kind, kind_of
from ..mutators import Calibration, ChannelMutator, JointMutator, Mutator
from ..mutators.quant import QuantMutator
from ..mutators.reconstruct import ReconstructMutator
from ..options import Count, checking
from ..policy import ChannelScores, ModelGraph
from ..policy.files import PolicyFile
from ..policy.published import PublishedPolicy
from ..surgery.copies import copy_of
from ..surgery.materialise import check_policy
from .functions import FunctionKind


@checking
def reconstruct(
    dense: nn.Module,
    policy: str | Path | PolicyFile | PublishedPolicy,
    images: Iterable,
    *,
    forward: Callable[[nn.Module, Any], Any] | None = None,
    quant: Mapping[str, Any] | None = None,
    limit: Count = 512,
    **settings: Any,
) -> nn.Module:
    """Build the network of a policy and repair it, without labels or training.

    A policy that was found elsewhere works at once: its channels are removed, the
    layers are fitted to what the dense ones compute on ``images``, batch norms follow,
    and layers with bits are quantised.

    Args:
        dense: The dense model with its weights; it does not change:
            ``dense=resnet18(weights='DEFAULT')``.
        policy: A policy file, what is in it, or an entry of :func:`mmcompress.zoo`:
            ``policy='out/policies/macs_0.5.json'``.
        images: Batches without labels, of one size as far as possible:
            ``images=loader``. Of tuples, the first entry is what the model takes.
        forward: As for :func:`mmcompress.prepare`.
        quant: Settings of :class:`QuantMutator`: ``quant=dict(rounding='gptq')``.
        limit: At most so many images are read: ``limit=256``.
        settings: Of :class:`ReconstructMutator`: ``ridge=1e-2``.

    Returns:
        nn.Module: The slim network, whose state dict loads wherever that of the search
        does.

    Raises:
        DataError: No images.
        PolicyError: The policy belongs to another model.

    Example:
        >>> slim = mmc.reconstruct(net, 'out/policies/macs_0.5.json', loader)
    """
    if isinstance(policy, PublishedPolicy):
        policy = policy.path
    file = policy if isinstance(policy, PolicyFile) else PolicyFile.load(policy)
    model = copy_of(dense).eval()
    first = next(model.parameters(), None)
    device = torch.device('cpu') if first is None else first.device
    images = list(images) if not isinstance(images, Tensor) else [images]
    annotated = all(isinstance(x, Batch) for x in images)
    batches = images if annotated else read_batches(images, device, limit)
    if not batches:
        raise DataError('Reconstruction needs images; give some without labels.')
    if forward is not None:
        declare_kind(model, FunctionKind(batches[0], forward))
    elif not annotated:
        kind = kind_of(model)
        batches = [kind.batch(model, batch.inputs) for batch in batches]
    graph = trace(model, file.input_shape)
    file.check_model(graph.fingerprint, type(model).__name__)
    check_policy(graph, file.policy, file.channels)
    mutator = _mutator(model, graph, file, batches, quant, settings)
    pair(model, batches)
    slim = mutator.materialise(file.policy)
    if not mutator.settles_norms(file.policy):
        recalibrate(slim, batches, paired=True)
    return slim


def _mutator(
    model: nn.Module, graph: ModelGraph, file: PolicyFile, batches: list[Batch],
    quant: Mapping[str, Any] | None, settings: Mapping[str, Any],
) -> JointMutator:
    """What makes the model the network of a file; its channels are sorted for it."""
    channel = ChannelMutator()
    channel.attach(model, graph)
    channel.sort(ChannelScores('file', {
        unit.name: {unit.producers[0].layer: _kept_first(
            unit.width, file.channels.get(unit.name))} for unit in graph.units}))
    rest: list[Mutator] = [ReconstructMutator(**settings)]
    if any(not bits.is_float for bits in file.policy.bits.values()):
        rest.append(QuantMutator(**quant or {}))
    for mutator in rest:
        mutator.prepare(model, graph, Calibration(batches))
    return JointMutator(channel, *rest)


def _kept_first(width: int, kept: np.ndarray | None) -> np.ndarray:
    scores = np.zeros(width)
    scores[slice(None) if kept is None else kept] = 1.0
    return scores
