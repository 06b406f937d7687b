"""The proxy without labels: how far the stages of a policy are from the network."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from ..data.images import Batch
from ..errors import CompressionError
from ..evaluation import PolicyEvaluator, Score
from ..kinds import kind_of
from ..mutators import ChannelMutator, JointMutator
from ..options import Positive
from ..policy import Policy
from .recording import Recording
from .stages import read_stages
from .supernet import Supernet, batch_statistics


class StageLosses(PolicyEvaluator):
    """Scores a policy by the sum of its stages' losses on the scoring images.

    Every stage gets the full network's input and is compared with its output, as in
    the training of the supernet, on the statistics of each batch; no label is used.
    Networks are comparable where no unit crosses a boundary of stages: otherwise
    they are compared with different parts of the full network. Mixed into an evaluator
    that has images.

    Args:
        stages (str | Sequence): See :func:`mmcompress.supernet.read_stages`. Defaults
            to 'auto'.
        temperature (float): Of softened logits. Defaults to 4.
        kwargs: See :class:`PolicyEvaluator`; ``metric`` is always ``'stage_loss'``.
    """

    def __init__(
        self, stages: str | Sequence = 'auto', temperature: Positive = 4.0, **kwargs
    ) -> None:
        super().__init__(**{**kwargs, 'metric': 'stage_loss', 'rule': 'less'})
        self.stages_cfg, self.temperature = stages, temperature
        self._supernet: Supernet | None = None

    @property
    def signature(self) -> dict:
        """See :attr:`PolicyEvaluator.signature`."""
        stages = self.stages_cfg if isinstance(self.stages_cfg, str) else \
            [s if isinstance(s, str) else dict(s) for s in self.stages_cfg]
        return dict(super().signature, stages=stages, temperature=self.temperature)

    def evaluate(self, policy: Policy, mutator: ChannelMutator | JointMutator) -> Score:
        """Score a policy; higher is better, 0 is the full network."""
        start = time.perf_counter()
        with self.autocast():
            losses, = mean_stage_losses(
                self.supernet(mutator), self.scoring, [policy])
        total = sum(losses.values())
        return Score(-total, dict(losses, stage_loss=total),
                     time.perf_counter() - start)

    def supernet(self, mutator: ChannelMutator | JointMutator) -> Supernet:
        """The stages of the model that ``mutator`` slices."""
        channel = channels_of(mutator)
        if self._supernet is None or self._supernet.mutator is not channel:
            self._supernet = Supernet(
                self.model, channel.graph, channel,
                read_stages(self.model, self.stages_cfg, channel.graph.input_shape),
                self.temperature)
        return self._supernet


def channels_of(mutator: ChannelMutator | JointMutator) -> ChannelMutator:
    """What decides about widths.

    Raises:
        CompressionError: The search has no widths.
    """
    channel = mutator.channel if isinstance(mutator, JointMutator) else mutator
    if channel is None:
        raise CompressionError(
            'Stage losses compare widths; add channel=dict(...) to compression.')
    return channel


def mean_stage_losses(
    supernet: Supernet, batches: Sequence[Batch], policies: Sequence[Policy]
) -> list[dict[str, float]]:
    """Mean loss of every stage over the images, one dict per policy.

    The full network runs once per batch, whatever the number of policies.

    Args:
        supernet (Supernet): The network and its stages.
        batches (Sequence[Batch]): Images.
        policies (Sequence[Policy]): What to compare with the full network.
    """
    model, images = supernet.model, sum(len(batch.inputs) for batch in batches)
    totals = [dict.fromkeys((s.name for s in supernet.stages), 0.0) for _ in policies]
    with torch.no_grad():
        for batch in batches:
            recording = Recording(supernet.stages)
            with batch_statistics(model), recording.of(model):
                kind_of(model).raw(model, batch)
            for policy, total in zip(policies, totals):
                with supernet.acting(policy):
                    for stage in supernet.stages:
                        loss = supernet.stage_loss(stage, recording, policy)
                        total[stage.name] += float(loss) * len(batch.inputs) / images
    return totals
