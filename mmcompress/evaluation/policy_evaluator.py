"""Scores policies on a live model."""

from __future__ import annotations

import contextlib
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from ..data.images import Batch, first
from ..errors import CompressionError
from ..kinds import kind_of
from ..mutators import Mutator
from ..options import Checked, Natural
from ..policy import Policy
from .distance import REFERENCES
from .dynamic_bn import FRESH, MODES, dynamic_bn, pair, recalibrate
from .finetune import Finetuning, finetune

RULES = ('greater', 'less')
"""Which scores are better."""


@dataclass(frozen=True)
class Score:
    """What a policy was measured to achieve.

    Args:
        value (float): Higher is better; the metric, negated if lower is better.
        metrics (Mapping[str, float]): Everything the evaluator returned.
        seconds (float): Time it took.
    """

    value: float
    metrics: Mapping[str, float]
    seconds: float


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images that are loaded part by part.

    Args:
        load (Callable): From a slice of their numbers to batches.
        facts (Mapping[str, Any]): What tells them from others, as JSON data.
    """

    load: Callable[[slice], list[Batch]]
    facts: Mapping[str, Any] = field(default_factory=dict)


FEWEST_FOR_NORMS = 6
"""Images that statistics of batch norms are found on at least, if there are so many."""


class PolicyEvaluator(Checked, ABC):
    """Scores policies on images that are decoded once and kept in memory.

    A subclass gets hold of a model and its images and hands them over by
    :meth:`keep`; from then on :meth:`evaluate` scores any number of policies. The
    subclass says what is measured (:meth:`metrics_of`), what scores depend on
    (:attr:`signature`) and which images prices may use (:meth:`other_images`).

    Args:
        metric (str): Name of the metric, one that :meth:`metrics_of` returns, or
            ``'loss'``, the mean training loss, ``'distance'``, that of the raw outputs
            from the dense model's, or ``'detections'``, that of a detector's decoded
            boxes and scores (see :mod:`.distance`). Of all three lower is better,
            whatever ``rule`` says; of few images they tell policies apart that a
            metric does not.
        dynamic_bn (str): ``'paired'``, ``'recalibrate'``, ``'batch'`` or ``'off'``; see
            :mod:`.dynamic_bn`. Defaults to 'paired'.
        rule (str): ``'greater'`` or ``'less'`` is better. Defaults to 'greater'.
        seed (int): Seed of all that is drawn. Defaults to 0.
        amp (bool): Score under autocast. Defaults to False.
        finetune (dict | None): Train every policy before it is scored; options of
            :class:`Finetuning`, e.g. ``dict(steps=50)``. Defaults to None: no training.

    Attributes:
        model (nn.Module): The model.
        scoring, calibration, recalibration, training (list[Batch]): Images to score
            on, to calibrate on, to recalibrate batch norms on and to fine-tune on.
        images, calibration_images (int): How many are scored and calibrated on.
        dataset_meta (Mapping): Classes and palette of the dataset, for checkpoints.
            Defaults to none.
    """

    images: int
    calibration_images: int
    dataset_meta: Mapping[str, Any] = {}

    def __init__(
        self,
        metric: str,
        dynamic_bn: Literal[MODES] = 'paired',
        rule: Literal[RULES] = 'greater',
        seed: Natural = 0,
        amp: bool = False,
        finetune: dict | None = None,
    ) -> None:
        self.metric, self.mode = metric, dynamic_bn
        self.rule = 'less' if metric in ('loss', *REFERENCES) else rule
        self.seed, self.amp = seed, amp
        self.finetuning = Finetuning.read(finetune)

    @property
    def signature(self) -> dict:
        """What scores depend on, as plain data; two studies must agree on it."""
        found = dict(metric=self.metric, rule=self.rule, dynamic_bn=self.mode,
                     seed=self.seed, amp=self.amp)
        if self.finetuning.steps:
            found['finetune'] = asdict(self.finetuning)
        return found

    @abstractmethod
    def metrics_of(self, model: nn.Module) -> Mapping[str, Any]:
        """All metrics of ``model`` as it is, on the scoring images."""

    @abstractmethod
    def other_images(
        self, count: int, batch_size: int, dataset: Any = None, augment: bool = False
    ) -> Images:
        """Images that prices are computed on, none of them scored or calibrated on.

        Args:
            count (int): How many.
            batch_size (int): Images per batch.
            dataset: Where to take them from. Defaults to where all images are from.
            augment (bool): Augment them as in training. Defaults to False.

        Raises:
            DataError: Images are missing or too few.
        """

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.scoring[0].inputs.device

    def keep(
        self, model: nn.Module, scoring: Sequence[Batch],
        calibration: Sequence[Batch] = (),
        recalibration: Sequence[Batch] | None = None, training: Sequence[Batch] = (),
    ) -> None:
        """Score this model on these images from now on.

        Args:
            model (nn.Module): The dense model; it is in evaluation mode afterwards.
            scoring (Sequence[Batch]): Images to score on.
            calibration (Sequence[Batch]): Others, to calibrate quantisers on.
            recalibration (Sequence[Batch] | None): Images to recalibrate batch norms
                on. Defaults to those of ``calibration``.
            training (Sequence[Batch]): Images to fine-tune on.
        """
        self.model = model.eval()
        self.scoring, self.calibration = list(scoring), list(calibration)
        self.recalibration = self.calibration if recalibration is None \
            else list(recalibration)
        self.training = list(training)
        _PAIRED.pop(model, None)
        self._pair(self.recalibration)
        self._refer()

    def _refer(self) -> None:
        """Keep what the dense model returns, for distances from it."""
        if self.metric in REFERENCES:
            self._reference = REFERENCES[self.metric](self.model, self.scoring)

    def halve_batches(self) -> None:
        """Score half as many images at a time from now on; the model is dense."""
        self.scoring = [half for batch in self.scoring for half in batch.halves()]
        self._refer()

    def norm_batches(self, mutator: Mutator | None = None) -> list[Batch]:
        """Images to find batch norms on; the dense model gets paired with them.

        Args:
            mutator (Mutator | None): Of candidates, which may need few of them: at most
                a fifth of those that are scored, but no fewer than
                :data:`FEWEST_FOR_NORMS`. Defaults to None: all images, for what is
                written.
        """
        count = mutator and mutator.norm_images
        if count is not None:
            count = min(count, max(FEWEST_FOR_NORMS, self.images // 5))
        batches = first(self.recalibration, count)
        self._pair(batches)
        return batches

    def _pair(self, batches: Sequence[Batch]) -> None:
        """Measure the dense model for ``'paired'``, unless this was done last."""
        if self.mode == 'paired' and batches:
            count = sum(len(batch.inputs) for batch in batches)
            last, images = _PAIRED.get(self.model, (None, 0))
            if last is None or last() is not self or images != count:
                pair(self.model, batches)
                _PAIRED[self.model] = ref(self), count

    def evaluate(self, policy: Policy, mutator: Mutator) -> Score:
        """Score a policy.

        Args:
            policy (Policy): What the model shall act as.
            mutator (Mutator): Makes it act so.

        Raises:
            CompressionError: The metrics lack ``metric``.
        """
        start = time.perf_counter()
        norms = self.norm_batches(mutator)
        with torch.no_grad(), self._acting(policy, mutator) as model:
            if model is None:
                return Score(math.nan, {}, time.perf_counter() - start)
            with dynamic_bn(model, self.mode, norms):
                metrics = self.measure(model)
        if metrics and self.metric not in metrics:
            raise CompressionError(
                f'The evaluator does not return {self.metric!r}; it returns '
                f'{", ".join(map(repr, metrics))}. Set metric to one of these, or to '
                f'{", ".join(map(repr, ["loss", *REFERENCES]))}.')
        # CocoMetric returns nothing at all where nothing was detected.
        value = float(metrics.get(self.metric, math.nan))
        return Score(value if self.rule == 'greater' else -value, metrics,
                     time.perf_counter() - start)

    @contextlib.contextmanager
    def _acting(
        self, policy: Policy, mutator: Mutator
    ) -> Iterator[nn.Module | None]:
        """The model as a policy says, fine-tuned; None if its loss exploded.

        What is trained is a slim copy, so the dense model needs no restoring.
        """
        if not self.finetuning.steps:
            with mutator.acting(policy) as model:
                yield model
        else:
            slim = mutator.materialise(policy)
            fine = finetune(slim, self.training, self.finetuning, self.seed)
            yield slim if fine else None

    def measure(self, model: nn.Module) -> dict[str, float]:
        """The numbers among the metrics of ``model`` as it is."""
        with torch.no_grad(), self.autocast():
            if self.metric == 'loss':
                metrics = {'loss': self._mean_loss(model)}
            elif self.metric in REFERENCES:
                metrics = {self.metric: self._reference.distance(model)}
            else:
                metrics = self.metrics_of(model)
        return {k: float(v) for k, v in metrics.items()
                if isinstance(v, (int, float, Tensor)) or hasattr(v, 'item')}

    def _mean_loss(self, model: nn.Module) -> float:
        kind = kind_of(model)
        losses = [kind.loss(model, batch) * len(batch.inputs) for batch in self.scoring]
        return float(sum(losses)) / sum(len(batch.inputs) for batch in self.scoring)

    def recalibrate(self, model: nn.Module) -> None:
        """Give a slim model statistics of all images, in the mode of its score.

        In pairs, the dense model was last paired with these (:meth:`norm_batches`)
        when the slim one was made of it.
        """
        if self.mode in FRESH:
            recalibrate(
                model.eval(), self.recalibration, paired=self.mode == 'paired')

    def losses(self) -> Iterator[Callable[[], Tensor]]:
        """Training losses of the calibration batches, for gradient importance."""
        for batch in self.calibration:
            yield lambda batch=batch: kind_of(self.model).loss(self.model, batch)

    def autocast(self) -> contextlib.AbstractContextManager:
        """The precision that is scored in."""
        if not self.amp:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type)


_PAIRED: WeakKeyDictionary[
    nn.Module, tuple[ref[PolicyEvaluator], int]] = WeakKeyDictionary()
"""By model, whose images its batch norms were paired with last."""
