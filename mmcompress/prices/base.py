"""What every source of prices shares: its images and its place on disk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..data.images import Batch
from ..options import Checked, Count
from ..policy import ModelGraph, SearchSpace
from ..surgery.weights import weights_digest
from .store import PriceStore
from .table import PriceTable

if TYPE_CHECKING:
    from ..evaluation.policy_evaluator import PolicyEvaluator


@dataclass(frozen=True, eq=False)
class Subject:
    """What prices are computed of.

    Args:
        model (nn.Module): The live model, its channels sorted by the mutator.
        graph (ModelGraph): Its units and layers.
        space (SearchSpace): The choices to price.
        mutator (Any): Makes the model act as a policy.
        evaluator (PolicyEvaluator): Prepared; prices avoid its images.
        log (Callable): Receives lines about the progress.
    """

    model: nn.Module
    graph: ModelGraph
    space: SearchSpace
    mutator: Any
    evaluator: PolicyEvaluator
    log: Callable[[str], None] = print


class PriceSource(Checked, ABC):
    """Computes the price of every choice from labelled images.

    The images should not be those the network was trained on: where it fits its
    training images perfectly, their gradients vanish and with them the prices.
    Augmentation helps where there are no others.

    Args:
        images (int): Number of images.
        batch_size (int): Images at a time.
        dataset (dict | None): Dataset to take them from. Defaults to the one that
            the evaluator scores on, minus the images it scores and calibrates on.
        augment (bool): Take them from the training set under its own pipeline.
            Defaults to False: under the test pipeline.
    """

    def __init__(
        self,
        images: Count,
        batch_size: Count = 16,
        dataset: dict | None = None,
        augment: bool = False,
    ) -> None:
        self.images, self.batch_size, self.dataset = images, batch_size, dataset
        self.augment = augment

    @property
    def settings(self) -> dict:
        """What prices depend on besides model, space and images, as JSON data."""
        return dict(type=type(self).__name__, batch_size=self.batch_size,
                    **(dict(augment=True) if self.augment else {}))

    def compute(self, subject: Subject, folder: Path) -> PriceTable:
        """Prices of every choice; from ``folder`` where they are there already.

        Args:
            subject (Subject): The model and its space.
            folder (Path): Where prices are kept. A computation that was killed
                continues from what is there.

        Raises:
            DataError: Images are missing or too few.
        """
        subject.model.eval()
        with torch.random.fork_rng():
            return self._compute(subject, *self.open(subject, folder))

    def open(
        self, subject: Subject, folder: Path
    ) -> tuple[Callable[[slice], list[Batch]], PriceStore]:
        """The images, loaded part by part, and what is known of their prices."""
        images = subject.evaluator.other_images(
            self.images, self.batch_size, self.dataset, self.augment)
        return images.load, PriceStore(folder, self.key(subject, **images.facts))

    def key(self, subject: Subject, **facts: Any) -> dict:
        """What prices depend on, as JSON data, with some facts about the images."""
        return dict(
            facts, **self.settings, fingerprint=subject.graph.fingerprint,
            weights=weights_digest(subject.model), space=list(subject.space.choices))

    @abstractmethod
    def _compute(
        self, subject: Subject, load: Callable[[slice], list[Batch]], store: PriceStore
    ) -> PriceTable:
        """Compute what the store does not hold yet."""
