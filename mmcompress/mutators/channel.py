"""Makes a live model behave as the widths of a policy say, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..options import Count, PositiveShare, Share
from ..plain import names_of
from ..policy import IN, ChannelScores, ModelGraph, Policy
from ..registry import MUTATORS
from ..surgery.materialise import check_policy, materialise
from ..surgery.permute import permute
from ..surgery.selection import Selection
from .base import NO_IMAGES, Calibration, Kept, Mutator, Values
from .importance import KINDS, channel_scores


@MUTATORS.register_module()
class ChannelMutator(Mutator):
    """Sorts the channels of every unit once; from then on slices.

    Args:
        importance (str): Order of the channels; see
            :func:`mmcompress.mutators.importance.channel_scores`. Defaults to 'l2'.
        divisor (int): Real channel counts allowed are its multiples. Defaults to 8.
        min_ratio (float): Smallest share of a unit that is kept. Defaults to 0.1.
        step (float | None): Distance between allowed shares, e.g. 0.1. Defaults to
            None: every multiple of ``divisor``.
        dense (str | Sequence[str]): Names or patterns of units that keep their dense
            width. Defaults to none.
    """

    def __init__(
        self, importance: Literal[KINDS] = 'l2', divisor: Count = 8,
        min_ratio: Share = 0.1, step: PositiveShare | None = None,
        dense: str | Sequence[str] = (),
    ) -> None:
        self.importance = importance
        self.divisor = divisor
        self.min_ratio = min_ratio
        self.step, self.dense = step, names_of(dense)

    @property
    def channel(self) -> ChannelMutator:
        """See :class:`Mutator`."""
        return self

    @property
    def space_options(self) -> dict:
        """What this mutator says about the search space."""
        return dict(divisor=self.divisor, min_ratio=self.min_ratio, step=self.step,
                    dense=self.dense)

    def prepare(
        self, model: nn.Module, graph: ModelGraph,
        calibration: Calibration = NO_IMAGES,
    ) -> None:
        """Sort the channels of ``model`` in place, most important first.

        The outputs of the model do not change. Call once, on the dense model with
        its weights loaded. ``scores`` then holds what the channels were sorted by,
        in the new order.

        Args:
            model (nn.Module): The dense model.
            graph (ModelGraph): Its verified units.
            calibration (Calibration): Its losses serve ``importance='taylor'``, its
                batches ``'obs'``.
        """
        self.attach(model, graph)
        self.sort(channel_scores(model, graph, self.importance, calibration))
        orders = self.selection.orders(self.order)
        for name, sides in orders.items():
            if name in calibration.moments and IN in sides:
                calibration.moments[name] = calibration.moments[name].reordered(
                    torch.as_tensor(sides[IN]))

    def attach(self, model: nn.Module, graph: ModelGraph) -> None:
        """Take a model over as it is; :meth:`sort` comes next."""
        self.model, self.graph = model, graph
        self.selection = Selection(model, graph)

    def sort(self, scores: ChannelScores) -> None:
        """Sort the channels by scores that are known."""
        # Stable, so that equal scores keep their order on every machine.
        self.order = {name: np.argsort(-score, kind='stable')
                      for name, score in scores.summed().items()}
        self.scores = scores.reordered(self.order)
        permute(self.model, self.graph, self.order)

    def check(self, policy: Policy) -> None:
        """Raise :class:`PolicyError` unless the widths fit the model."""
        check_policy(self.graph, policy)

    def kept(self, policy: Policy) -> Kept:
        """See :meth:`Mutator.kept`; in the model's new order."""
        return self.selection.kept(self.selection.of_policy(policy))

    def channels(self, policy: Policy) -> dict[str, np.ndarray]:
        """Kept channels in the numbering of the checkpoint, ascending.

        Units at their dense width are left out.
        """
        return {
            unit.name: np.sort(self.order[unit.name][:policy.widths[unit.name]])
            for unit in self.graph.units
            if policy.widths.get(unit.name, unit.width) < unit.width}

    def act(self, policy: Policy, kept: Kept) -> Iterator[Values]:
        """See :meth:`Mutator.act`: every affected layer with its slices."""
        channels = self.selection.of_policy(policy)
        for module, values in self.selection.values(channels):
            yield module, _owned(module, values)

    def write(self, model: nn.Module, policy: Policy, kept: Kept) -> None:
        """Bring the channels back into the order of the checkpoint, then slice.

        The order matters for layers that hold positions instead of weights
        (``ChannelPad``).
        """
        inverse = {name: np.argsort(order) for name, order in self.order.items()}
        permute(model, self.graph, inverse)
        materialise(model, self.graph, policy, self.channels(policy), inplace=True)


def _owned(module: nn.Module, values: dict) -> dict:
    """Copies of buffers, so that new statistics do not reach the dense ones.

    Without gradients the weights are made contiguous here, once per policy,
    instead of by every convolution.
    """
    owned = {}
    for name, value in values.items():
        if isinstance(value, Tensor) and name in module._buffers:
            value = value.clone()
        elif isinstance(value, Tensor) and not torch.is_grad_enabled():
            value = value.contiguous()
        owned[name] = value
    return owned
