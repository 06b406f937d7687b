"""Scores policies on a live model."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os.path as osp
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from torch import Tensor, nn

from ..data.images import (
    Batch,
    build_dataset,
    load_batches,
    loss_of,
    pick,
    search_dataset,
)
from ..errors import CompressionError
from ..mutators import Mutator
from ..openmmlab.metrics import full_precision, silence
from ..policy import Policy
from ..registry import EVALUATORS
from .distance import REFERENCES
from .dynamic_bn import FRESH, dynamic_bn, pair, recalibrate
from .finetune import Finetuning, augmented_batches, finetune, training_batches


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


@EVALUATORS.register_module()
class PolicyEvaluator:
    """Scores policies on images that are decoded once and kept in memory.

    Scoring and calibration images are disjoint, and both come from the training
    set unless a dataset is given, so that the validation set is left to report on.

    Args:
        metric (str): Name of the metric, e.g. ``'coco/bbox_mAP'``, or ``'loss'``, the
            mean training loss, ``'distance'``, that of the raw outputs from the
            dense model's, or ``'detections'``, that of a detector's decoded boxes and
            scores (see :mod:`.distance`). Of all three lower is better, whatever
            ``rule`` says; of few images they tell policies apart that a metric does
            not.
        images (int): Images to score on. Defaults to 256.
        calibration_images (int): Images to recalibrate batch norms on. Defaults to
            64.
        dynamic_bn (str): ``'paired'``, ``'recalibrate'``, ``'batch'`` or ``'off'``; see
            :mod:`.dynamic_bn`. Defaults to 'paired'.
        dataset (dict | None): Dataset to take all images from. Defaults to the
            training set under the test pipeline.
        evaluator (dict | list | None): Metrics. Defaults to ``val_evaluator``, with
            ``ann_file`` set to the one of the dataset.
        batch_size (int): Images per forward. Defaults to 16.
        rule (str): ``'greater'`` or ``'less'`` is better. Defaults to 'greater'.
        seed (int): Seed of the choice of images. Defaults to 0.
        amp (bool): Score under autocast. Defaults to False.
        finetune (dict | None): Train every policy before it is scored; options of
            :class:`Finetuning`, e.g. ``dict(steps=50)``. Its images are those of
            the training set that are not scored on. Defaults to None: no training.
        augment (bool): Recalibrate batch norms on the calibration images under the
            training pipeline, as the statistics of the checkpoint were found. Other
            augmentation than small crops and flips shifts statistics away from those
            of test images. Defaults to False: under the test pipeline.
    """

    def __init__(
        self,
        metric: str,
        images: int = 256,
        calibration_images: int = 64,
        dynamic_bn: str = 'paired',
        dataset: dict | None = None,
        evaluator: dict | list | None = None,
        batch_size: int = 16,
        rule: str = 'greater',
        seed: int = 0,
        amp: bool = False,
        finetune: dict | None = None,
        augment: bool = False,
    ) -> None:
        if augment and dataset:
            raise CompressionError(
                'augment takes images of the training set; leave out the dataset of '
                'the evaluator, or augment.')
        if rule not in ('greater', 'less'):
            raise CompressionError(f"rule must be 'greater' or 'less', not {rule!r}.")
        self.metric, self.mode = metric, dynamic_bn
        self.rule = 'less' if metric in ('loss', *REFERENCES) else rule
        self.images, self.calibration_images = images, calibration_images
        self.dataset, self.evaluator = dataset, evaluator
        self.batch_size, self.seed, self.amp = batch_size, seed, amp
        self.finetuning = Finetuning.read(finetune)
        self.augment = augment

    @property
    def signature(self) -> dict:
        """What scores depend on, as plain data; two studies must agree on it."""
        found = dict(
            metric=self.metric, images=self.images, rule=self.rule,
            calibration_images=self.calibration_images, dynamic_bn=self.mode,
            batch_size=self.batch_size, seed=self.seed, amp=self.amp)
        for name in ('dataset', 'evaluator'):
            if value := getattr(self, name):
                found[name] = json.loads(json.dumps(value, default=str))
        if self.finetuning.steps:
            found['finetune'] = asdict(self.finetuning)
        if self.augment:
            found['augment'] = True
        return found

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.scoring[0].inputs.device

    @property
    def recalibration(self) -> list[Batch]:
        """What batch norms are recalibrated on."""
        return self.augmented if self.augment else self.calibration

    @property
    def dataset_meta(self) -> dict:
        """Classes and palette of the dataset."""
        return self._metrics.dataset_meta

    def prepare(self, model: nn.Module, cfg: Config) -> None:
        """Load the images and build the metrics.

        Args:
            model (nn.Module): The model to score.
            cfg (Config): The configuration that datasets are taken from.

        Raises:
            DataError: Images are missing or too few.
        """
        self.model = model.eval()
        spec = self.dataset or search_dataset(cfg)
        dataset = build_dataset(spec)
        wanted = [self.images, self.calibration_images]
        scored, calibrated = pick(len(dataset), wanted, self.seed)
        load = model.data_preprocessor
        self.scoring = load_batches(dataset, scored, load, self.batch_size)
        self.calibration = load_batches(dataset, calibrated, load, self.batch_size)
        self.augmented = augmented_batches(
            cfg, load, calibrated, self.batch_size, self.seed,
        ) if self.augment and len(calibrated) else []
        self.model.paired_by = None
        self._pair()
        if self.metric in REFERENCES:
            self._reference = REFERENCES[self.metric](self.model, self.scoring)
        if self.finetuning.steps:
            # Another dataset than the training set has no images in common with it.
            held_out = [] if self.dataset else scored
            self.training = training_batches(
                cfg, load, self.finetuning, held_out, self.seed)
        metrics = copy.deepcopy(self.evaluator or cfg.get('val_evaluator'))
        if not metrics:
            raise CompressionError(
                'The config has no val_evaluator; give the evaluator its metrics: '
                'evaluator=dict(type=...).')
        self._metrics = Evaluator(_with_annotations(metrics, spec, dataset))
        self._metrics.dataset_meta = dataset.metainfo
        self._restrict(dataset, scored)

    def _pair(self) -> None:
        """Measure the dense model for ``'paired'``, unless this evaluator did last."""
        if self.mode == 'paired' and self.recalibration and \
                self.model.paired_by != id(self):
            pair(self.model, self.recalibration)
            self.model.paired_by = id(self)

    def _restrict(self, dataset: object, numbers: Sequence[int]) -> None:
        """COCO metrics count every image of their file unless told which ones."""
        for metric in self._metrics.metrics:
            if getattr(metric, '_coco_api', None) is not None:
                metric.img_ids = [
                    dataset.get_data_info(int(i))['img_id'] for i in numbers]

    def evaluate(self, policy: Policy, mutator: Mutator) -> Score:
        """Score a policy.

        Args:
            policy (Policy): What the model shall act as.
            mutator (Mutator): Makes it act so.

        Raises:
            CompressionError: The metrics lack ``metric``.
        """
        start = time.perf_counter()
        self._pair()
        with torch.no_grad(), self._acting(policy, mutator) as model:
            if model is None:
                return Score(math.nan, {}, time.perf_counter() - start)
            with dynamic_bn(model, self.mode, self.recalibration):
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
        """All metrics of ``model`` as it is, on the scoring images."""
        with silence(), full_precision(self._metrics), torch.no_grad(), \
                self._autocast():
            if self.metric == 'loss':
                losses = [loss_of(model, batch) * len(batch.inputs)
                          for batch in self.scoring]
                return {'loss': float(sum(losses)) / self.images}
            if self.metric in REFERENCES:
                return {self.metric: self._reference.distance(model)}
            for batch in self.scoring:
                samples = model(batch.inputs, batch.samples(), mode='predict')
                self._metrics.process(samples, None)
            metrics = self._metrics.evaluate(self.images)
        return {k: float(v) for k, v in metrics.items()
                if isinstance(v, (int, float, Tensor)) or hasattr(v, 'item')}

    def recalibrate(self, model: nn.Module) -> None:
        """Give a slim model the statistics that its score was measured with."""
        if self.mode in FRESH:
            recalibrate(
                model.eval(), self.recalibration, paired=self.mode == 'paired')

    def losses(self) -> Iterator[Callable[[], Tensor]]:
        """Training losses of the calibration batches, for gradient importance."""
        for batch in self.calibration:
            yield lambda batch=batch: loss_of(self.model, batch)

    def _autocast(self) -> contextlib.AbstractContextManager:
        if not self.amp:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type)


def _with_annotations(metrics: dict | list, spec: dict, dataset: object) -> list[dict]:
    """Point metrics that read an annotation file to the one of the dataset."""
    metrics = [metrics] if isinstance(metrics, dict) else list(metrics)
    for metric in metrics:
        if metric.get('ann_file'):
            metric['ann_file'] = getattr(dataset, 'ann_file', None) or osp.join(
                spec.get('data_root', ''), spec['ann_file'])
    return metrics
