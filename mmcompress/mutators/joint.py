"""Widths and bits of one policy together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from ..kinds import copy_of
from ..policy import ModelGraph, Policy
from ..policy.scores import ChannelScores
from ..registry import MUTATORS, build
from .base import Mutator
from .channel import ChannelMutator
from .quant import QuantMutator

if TYPE_CHECKING:
    from ..evaluation import PolicyEvaluator


class JointMutator(Mutator):
    """A channel mutator, a quantising one, or both: first slice, then quantise.

    Args:
        channel (ChannelMutator | None): Decides about widths.
        quant (QuantMutator | None): Decides about bits.
    """

    def __init__(
        self, channel: ChannelMutator | None = None, quant: QuantMutator | None = None
    ) -> None:
        assert channel or quant
        self.channel, self.quant = channel, quant

    @classmethod
    def from_config(cls, compression: Mapping) -> JointMutator:
        """Build what ``compression`` names: ``channel``, ``quant`` or both.

        Neither means channels.
        """
        def made(key: str, default: str):
            return build(MUTATORS, {'type': default, **(compression.get(key) or {})})

        quant = made('quant', 'QuantMutator') if 'quant' in compression else None
        channel = made('channel', 'ChannelMutator') \
            if 'channel' in compression or quant is None else None
        return cls(channel, quant)

    @property
    def space_options(self) -> dict:
        """What the mutators say about the search space."""
        options = dict(self.quant.space_options) if self.quant else {}
        if self.channel:
            options.update(self.channel.space_options, prune=True)
        return options

    @property
    def scores(self) -> ChannelScores | None:
        """What the channels were sorted by; None where no widths are searched."""
        return self.channel.scores if self.channel else None

    @property
    def quantiser(self) -> QuantMutator | None:
        """Quantises single tensors, for prices."""
        return self.quant

    def prepare(
        self, model: nn.Module, graph: ModelGraph, evaluator: PolicyEvaluator
    ) -> None:
        """Sort the channels, then calibrate; outputs do not change.

        Args:
            model (nn.Module): The dense model.
            graph (ModelGraph): Its units and layers.
            evaluator (PolicyEvaluator): Prepared; gives losses and calibration images.
        """
        self.model = model
        if self.channel:
            self.channel.prepare(model, graph, evaluator.losses())
        if self.quant:
            self.quant.prepare(model, graph, evaluator.calibration)

    def apply(self, policy: Policy) -> None:
        """Make the model act as ``policy``; replaces the policy before."""
        self.reset()
        try:
            if self.channel:
                self.channel.apply(policy)
            if self.quant:
                self.quant.apply(policy, self._inputs(policy))
        except BaseException:
            self.reset()
            raise

    def reset(self) -> None:
        """Make the model dense and float again, exactly."""
        for mutator in (self.quant, self.channel):
            if mutator:
                mutator.reset()

    def channels(self, policy: Policy) -> dict[str, np.ndarray]:
        """See :meth:`ChannelMutator.channels`; empty without one."""
        return self.channel.channels(policy) if self.channel else {}

    def materialise(self, policy: Policy) -> nn.Module:
        """The slim, quantised model, its channels in the checkpoint's order."""
        if self.channel is None:
            return self.quant.materialise(policy)
        if self.quant is None:
            return self.channel.materialise(policy)
        self.quant.check(policy)
        model = copy_of(self.model)
        self.quant.write(model, policy, self._inputs(policy))
        return self.channel.materialise(policy, model)

    def _inputs(self, policy: Policy) -> dict[str, np.ndarray]:
        """Kept inputs of the layers that ``policy`` slices."""
        if self.channel is None:
            return {}
        selection = self.channel.selection
        kept = selection.kept(selection.of_policy(policy))
        return {layer: sides['in'] for layer, sides in kept.items() if 'in' in sides}
