"""What the further checks look at: a network that passed the first ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from mmcompress.arithmetic.labels import tensors_in
from mmcompress.data.images import Batch
from mmcompress.graph.inputs import FEW
from mmcompress.kinds import ModelKind, kind_of
from mmcompress.mutators import ChannelMutator
from mmcompress.policy import ModelGraph, Policy, SearchSpace
from mmcompress.testing.networks import random_policy


class NotApplicable(Exception):
    """A check that asks for what such a network does not have."""


class Failed(Exception):
    """A check whose answer is no."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A network of random weights whose channels are sorted.

    Args:
        architecture (Mapping): Its config.
        mutator (ChannelMutator): Prepared on it.
    """

    architecture: Mapping[str, Any]
    mutator: ChannelMutator

    @property
    def model(self) -> nn.Module:
        """The dense network."""
        return self.mutator.model

    @property
    def graph(self) -> ModelGraph:
        """Its verified units."""
        return self.mutator.graph

    @property
    def kind(self) -> ModelKind:
        """What it is."""
        return kind_of(self.model)

    @cached_property
    def policy(self) -> Policy:
        """Random widths, the same ones always."""
        space = SearchSpace.from_graph(self.graph, **self.mutator.space_options)
        return random_policy(space, seed=1)

    def slim(self) -> nn.Module:
        """A new small network of the policy, in evaluation mode."""
        return self.mutator.materialise(self.policy).eval()

    @property
    def training_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Sizes of images to train on: a small one, then that of the costs.

        Some losses need more places than a forward pass.
        """
        return tuple(dict.fromkeys((self.graph.trace_shape, self.graph.input_shape)))


@torch.no_grad()
def outputs_on(model: nn.Module, batch: Batch) -> list[Tensor]:
    """Raw outputs in float64, with regions that do not depend on the weights."""
    kind, shape = kind_of(model), tuple(batch.inputs.shape[1:])
    with kind.fixed_regions(model, shape, FEW) as others:
        found = tensors_in((kind.raw(model, batch), others))
    return [x.double() for x in found if x.is_floating_point() and x.numel()]
