"""Several mutators as one: widths, bits and whatever else a policy stands for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from torch import nn

from ..policy import ChannelScores, ModelGraph, Policy
from ..registry import MUTATORS, build
from .base import NO_IMAGES, Calibration, Kept, Mutator, Values
from .channel import ChannelMutator
from .quant import QuantMutator
from .reconstruct import ReconstructMutator

DEFAULTS = dict(channel='ChannelMutator', reconstruct='ReconstructMutator',
                quant='QuantMutator')
"""Types of the entries of ``compression`` that need not name theirs."""


class JointMutator(Mutator):
    """Mutators that act in order: first slice, then change what is left.

    Args:
        mutators (Mutator): In the order in which they act.
    """

    def __init__(self, *mutators: Mutator) -> None:
        assert mutators
        self.mutators = mutators

    @classmethod
    def from_config(cls, compression: Mapping) -> JointMutator:
        """Build what ``compression`` names; neither channel nor quant means channel.

        Args:
            compression (Mapping): ``channel``, ``reconstruct``, ``quant``, and under
                any other key a config with the ``type`` of a registered mutator, which
                acts between the widths and the bits.
        """
        entries = {key: options or {} for key, options in compression.items()
                   if key in DEFAULTS or (
                       isinstance(options, Mapping) and 'type' in options)}
        if not entries.keys() & {'channel', 'quant'}:
            entries['channel'] = {}
        order = sorted(entries, key=lambda key: dict(channel=0, quant=2).get(key, 1))
        return cls(*(
            build(MUTATORS, {'type': DEFAULTS.get(key), **entries[key]})
            for key in order))

    @property
    def space_options(self) -> dict:
        """What the mutators say about the search space, the first one last."""
        options: dict = {}
        for mutator in reversed(self.mutators):
            options.update(mutator.space_options)
        return dict(options, prune=True) if self.channel else options

    @property
    def model(self) -> nn.Module:
        """See :class:`Mutator`."""
        return self.mutators[0].model

    @property
    def graph(self) -> ModelGraph:
        """See :class:`Mutator`."""
        return self.mutators[0].graph

    def _first(self, name: str):
        """The first value of an attribute that a mutator has."""
        found = (getattr(mutator, name) for mutator in self.mutators)
        return next((value for value in found if value is not None), None)

    @property
    def scores(self) -> ChannelScores | None:
        """What the channels were sorted by; None where no widths are searched."""
        return self._first('scores')

    @property
    def channel(self) -> ChannelMutator | None:
        """See :class:`Mutator`."""
        return self._first('channel')

    @property
    def quantiser(self) -> QuantMutator | None:
        """See :class:`Mutator`."""
        return self._first('quantiser')

    @property
    def repair(self) -> ReconstructMutator | None:
        """See :class:`Mutator`."""
        return self._first('repair')

    @property
    def norm_images(self) -> int | None:
        """See :class:`Mutator`."""
        return self._first('norm_images')

    def prepare(
        self, model: nn.Module, graph: ModelGraph,
        calibration: Calibration = NO_IMAGES,
    ) -> None:
        """Prepare the mutators in the order in which they act."""
        for mutator in self.mutators:
            mutator.prepare(model, graph, calibration)

    def check(self, policy: Policy) -> None:
        """Raise :class:`PolicyError` unless the policy fits every mutator."""
        for mutator in self.mutators:
            mutator.check(policy)

    def kept(self, policy: Policy) -> Kept:
        """See :meth:`Mutator.kept`."""
        channel = self.channel
        return channel.kept(policy) if channel else {}

    def channels(self, policy: Policy) -> dict[str, np.ndarray]:
        """See :meth:`ChannelMutator.channels`; empty without one."""
        channel = self.channel
        return channel.channels(policy) if channel else {}

    def settles_norms(self, policy: Policy) -> bool:
        """See :meth:`Mutator.settles_norms`; rounding unsettles them again."""
        return all(bits.is_float for bits in policy.bits.values()) and any(
            mutator.settles_norms(policy) for mutator in self.mutators)

    def act(self, policy: Policy, kept: Kept) -> Iterator[Values]:
        """See :meth:`Mutator.act`."""
        for mutator in self.mutators:
            yield from mutator.act(policy, kept)

    def write(self, model: nn.Module, policy: Policy, kept: Kept) -> None:
        """See :meth:`Mutator.write`; slicing, which renumbers all, comes last."""
        last = self.channel
        for mutator in self.mutators:
            if mutator is not last:
                mutator.write(model, policy, kept)
        if last:
            last.write(model, policy, kept)
