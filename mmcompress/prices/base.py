"""What every source of prices shares: its images and its place on disk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmengine.config import Config
from torch import nn

from ..data.images import Batch, build_dataset, load_batches, pick, search_dataset
from ..errors import CompressionError
from ..evaluation.finetune import augmented_batches
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
        cfg (Config): The configuration that datasets are taken from.
        log (Callable): Receives lines about the progress.
    """

    model: nn.Module
    graph: ModelGraph
    space: SearchSpace
    mutator: Any
    evaluator: PolicyEvaluator
    cfg: Config
    log: Callable[[str], None] = print


class PriceSource(ABC):
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
        images: int,
        batch_size: int = 16,
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
        evaluator = subject.evaluator
        own = self.dataset is not None
        spec = self.dataset or evaluator.dataset or search_dataset(subject.cfg)
        if self.augment and (own or evaluator.dataset):
            raise CompressionError(
                'augment takes images of the training set; leave out the dataset of '
                'prices and evaluator, or augment.')
        dataset = build_dataset(spec)
        others = [] if own else [evaluator.images, evaluator.calibration_images]
        numbers = pick(len(dataset), [*others, self.images], evaluator.seed)[-1]
        store = PriceStore(folder, dict(
            self.settings, fingerprint=subject.graph.fingerprint,
            weights=weights_digest(subject.model),
            preprocessing=[b.flatten().tolist() for b in
                           subject.model.data_preprocessor.buffers()],
            calibration=[evaluator.calibration_images, evaluator.seed,
                         *['augmented'] * evaluator.augment],
            space=list(subject.space.choices),
            compression=repr(subject.cfg.get('compression')),
            dataset=repr(sorted(spec.items(), key=str)), images=numbers.tolist()))

        def load(part: slice) -> list[Batch]:
            preprocessor = subject.model.data_preprocessor
            if self.augment:
                return augmented_batches(subject.cfg, preprocessor, numbers[part],
                                         self.batch_size, part.start or 0)
            return load_batches(dataset, numbers[part], preprocessor, self.batch_size)

        return load, store

    @abstractmethod
    def _compute(
        self, subject: Subject, load: Callable[[slice], list[Batch]], store: PriceStore
    ) -> PriceTable:
        """Compute what the store does not hold yet."""
