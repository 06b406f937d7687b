"""The protocol of a mutator: act as a policy says, and come back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from ..data.images import Batch
from ..options import Checked
from ..policy import ChannelScores, ModelGraph, Policy
from ..reconstruction.kept import measured_once
from ..reconstruction.moments import Moments, readers
from ..reconstruction.units import names_of_readers
from ..surgery.copies import copy_of
from ..surgery.shadow import Shadow

if TYPE_CHECKING:
    from .channel import ChannelMutator
    from .quant import QuantMutator
    from .reconstruct import ReconstructMutator

Kept = Mapping[str, Mapping[str, np.ndarray]]
"""Kept positions by layer and side; a layer or side that is absent keeps all."""

Values = tuple[nn.Module, Mapping[str, Any]]
"""A module and the attributes that it takes."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """The images that mutators may look at before a search.

    Args:
        batches (Sequence[Batch]): Unlabelled use: ranges, statistics.
        losses (Callable): Returns closures, one a batch, that compute the training
            loss; for gradients. Defaults to none.
        moments (dict): What layers read, by layer, once it has been measured; whoever
            reorders the channels of the model reorders it.
        folder (Path | None): Where this is kept. Defaults to None: nowhere.
    """

    batches: Sequence[Batch] = ()
    losses: Callable[[], Iterable[Callable[[], Tensor]]] = tuple
    moments: dict[str, Moments] = field(default_factory=dict)
    folder: Path | None = None

    def measured(
        self, model: nn.Module, graph: ModelGraph
    ) -> dict[str, Moments]:
        """What the layers that read units have as inputs; measured once.

        Raises:
            DataError: No images, or what is kept is damaged.
        """
        if not self.moments:
            layers = readers(model, names_of_readers(graph.units))
            self.moments.update(
                measured_once(model, layers, self.batches, self.folder))
        return self.moments


NO_IMAGES = Calibration()


class Mutator(Checked, ABC):
    """Makes a live model behave as a policy says, and back.

    A mutator is prepared once on the dense model. Then :meth:`apply` and
    :meth:`reset` may alternate any number of times, and :meth:`materialise` builds
    the network for good. A subclass says only what changes: :meth:`act` yields new
    attributes of modules for a while, :meth:`write` changes a copy of the model.
    Several mutators compose to a :class:`JointMutator`.

    Attributes:
        model (nn.Module): The prepared model.
        graph (ModelGraph): Its units and layers.
        scores (ChannelScores | None): Importance of the channels in the model's new
            order; None if the mutator does not sort channels.
        channel (ChannelMutator | None): The part that decides about widths.
        quantiser (QuantMutator | None): The part that quantises, for prices.
        repair (ReconstructMutator | None): The part that repairs.
        norm_images (int | None): Calibration images that find the batch norms of a
            candidate; None for all.
    """

    model: nn.Module
    graph: ModelGraph
    scores: ChannelScores | None = None
    channel: ChannelMutator | None = None
    quantiser: QuantMutator | None = None
    repair: ReconstructMutator | None = None
    norm_images: int | None = None
    _shadows: tuple[Shadow, ...] | list[Shadow] = ()

    # -- what a subclass says ---------------------------------------------------
    @property
    def space_options(self) -> dict:
        """Options of :meth:`SearchSpace.from_graph`. Defaults to none."""
        return {}

    @abstractmethod
    def prepare(
        self, model: nn.Module, graph: ModelGraph,
        calibration: Calibration = NO_IMAGES,
    ) -> None:
        """Learn the dense model; its outputs and state-dict keys do not change.

        Args:
            model (nn.Module): In evaluation mode, with its weights loaded.
            graph (ModelGraph): Its verified units, and its layers.
            calibration (Calibration): Images.
        """

    def check(self, policy: Policy) -> None:
        """Raise :class:`PolicyError` unless the policy fits the model."""

    def kept(self, policy: Policy) -> Kept:
        """Positions that the widths of a policy leave. Defaults to all."""
        return {}

    def channels(self, policy: Policy) -> dict[str, np.ndarray]:
        """Kept channels by unit, in the numbering of the checkpoint; see
        :meth:`ChannelMutator.channels`. Defaults to none: all units are dense."""
        return {}

    def settles_norms(self, policy: Policy) -> bool:
        """Whether what :meth:`write` leaves needs no new statistics of batch norms.

        Defaults to False.
        """
        return False

    @abstractmethod
    def act(self, policy: Policy, kept: Kept) -> Iterator[Values]:
        """Yield modules with the attributes they take while the policy is in force.

        What has been yielded is in force when the next pair is asked for, and so are
        the changes of the mutators that act earlier.

        Args:
            policy (Policy): A policy that has passed :meth:`check`.
            kept (Kept): Positions that all mutators together leave.
        """

    @abstractmethod
    def write(self, model: nn.Module, policy: Policy, kept: Kept) -> None:
        """Change a copy of the prepared model for good, in place.

        Args:
            model (nn.Module): The copy. Slicing comes last, so it has dense widths.
            policy (Policy): A policy that has passed :meth:`check`.
            kept (Kept): Positions that all mutators together leave.
        """

    # -- what follows from it -----------------------------------------------------
    def apply(self, policy: Policy) -> None:
        """Make the model act as ``policy``; replaces the policy before.

        Raises:
            PolicyError: The policy does not fit the model.
        """
        self.reset()
        self.check(policy)
        self._shadows = []
        try:
            for module, values in self.act(policy, self.kept(policy)):
                self._shadows.append(Shadow(module, values))
        except BaseException:
            self.reset()
            raise

    def reset(self) -> None:
        """Make the model dense and float again, exactly."""
        for shadow in reversed(self._shadows):
            shadow.lift()
        self._shadows = ()

    @contextmanager
    def acting(self, policy: Policy) -> Iterator[nn.Module]:
        """The model as ``policy`` says, for the length of a ``with`` block."""
        self.apply(policy)
        try:
            yield self.model
        finally:
            self.reset()

    def materialise(self, policy: Policy) -> nn.Module:
        """The physically small model of ``policy``, a copy.

        Its channels are in the order of the checkpoint, in which
        ``mmcompress.Compressed`` rebuilds it.

        Raises:
            PolicyError: The policy does not fit the model.
        """
        assert not self._shadows, 'the model acts as a policy; reset it first'
        self.check(policy)
        model = copy_of(self.model)
        self.write(model, policy, self.kept(policy))
        return model
