"""A network whose subnets are compared with it, stage by stage or as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..evaluation.distillation import distance_of, mean_distance, outputs_watched
from ..graph.boundaries import trace_boundaries
from ..layers.norm import batch_norms
from ..mutators import ChannelMutator
from ..policy import ModelGraph, Policy
from ..surgery.shadow import shadowed
from .recording import Recording
from .stages import Stage


class Supernet:
    """The subnets of a model that has been prepared for slicing.

    Args:
        model (nn.Module): The user's model.
        graph (ModelGraph): Its verified units.
        mutator (ChannelMutator): Prepared on the model.
        stages (Sequence[Stage]): What is compared.
        temperature (float): Of softened logits. Defaults to 4.
    """

    def __init__(
        self, model: nn.Module, graph: ModelGraph, mutator: ChannelMutator,
        stages: Sequence[Stage], temperature: float = 4.0,
    ) -> None:
        self.model, self.mutator = model, mutator
        self.stages = tuple(stages)
        paths = [path for stage in stages for path in stage.modules]
        self.occupied = trace_boundaries(model, graph, paths)
        self.distances = {
            stage.name: distance_of(
                stage.loss, model.get_submodule(stage.modules[-1]), temperature)
            for stage in stages}

    @contextmanager
    def acting(self, policy: Policy) -> Iterator[None]:
        """The model as ``policy`` says, its batch norms on the batch's statistics.

        The running statistics, which belong to the full network, are not touched.
        """
        with self.mutator.acting(policy), batch_statistics(self.model):
            yield

    def stage_loss(self, stage: Stage, recording: Recording, policy: Policy) -> Tensor:
        """Distance of one stage's subnet from the full network.

        Args:
            stage (Stage): One of the stages.
            recording (Recording): Of the full network on the batch.
            policy (Policy): What the model acts as.
        """
        distance = self.distances[stage.name]
        pairs = recording.replay(stage, self.model, self.occupied, policy.widths)
        return torch.stack([distance(out, target) for out, target in pairs]).mean()

    def whole_loss(self, recording: Recording, data: dict) -> Tensor:
        """Distance of the whole subnet's outputs from those of the full network.

        Args:
            recording (Recording): Of the full network; its stages are the heads.
            data (dict): The preprocessed batch.
        """
        heads = {stage.modules[-1]: stage for stage in self.stages}
        with outputs_watched(self.model, list(heads)) as outputs:
            self.model(**data, mode='tensor')
        return mean_distance(
            {path: self.distances[stage.name] for path, stage in heads.items()},
            outputs, {path: recording.targets(stage) for path, stage in heads.items()})


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Let batch norms use, and not store, the statistics of each batch.

    Also those that the model keeps frozen: subnets get statistics of their own when
    they are evaluated.
    """
    with shadowed((m, dict(training=True, track_running_stats=False))
                  for m in batch_norms(model)):
        yield
