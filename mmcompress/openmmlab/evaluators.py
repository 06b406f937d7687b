"""Evaluators whose images and metrics a config describes."""

from __future__ import annotations

import copy
import os.path as osp
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from torch import nn

from ..data.images import Batch, pick
from ..errors import CompressionError
from ..evaluation import PolicyEvaluator
from ..evaluation.distance import REFERENCES
from ..evaluation.dynamic_bn import MODES
from ..evaluation.policy_evaluator import RULES, Images
from ..kinds import kind_of
from ..options import Count, Natural
from ..plain import plain
from ..quiet import quiet
from ..registry import EVALUATORS
from ..supernet.stage_losses import StageLosses
from .images import (
    build_dataset,
    content_digest,
    load_batches,
    search_dataset,
    without_places,
)
from .metrics import full_precision
from .training_images import augmented_batches, training_batches

IMAGES, CALIBRATION_IMAGES = 256, 64
"""Images to score and to calibrate on, if there are enough."""


@EVALUATORS.register_module('PolicyEvaluator')
class DatasetEvaluator(PolicyEvaluator):
    """Scores policies by the metrics of a config, on images of its datasets.

    Scoring and calibration images are disjoint, and both come from the training
    set unless a dataset is given, so that the validation set is left to report on.

    Args:
        metric (str): Name of the metric, e.g. ``'coco/bbox_mAP'``, or one of those
            that :class:`PolicyEvaluator` names.
        images (int | None): Images to score on. Defaults to 256, or half of the
            dataset where it is too small for that.
        calibration_images (int | None): Images to recalibrate batch norms on. Defaults
            to 64, or a quarter of the dataset where it is too small for that.
        dynamic_bn (str): See :class:`PolicyEvaluator`. Defaults to 'paired'.
        dataset (dict | None): Dataset to take all images from. Defaults to the
            training set under the test pipeline.
        evaluator (dict | list | None): Metrics. Defaults to ``val_evaluator``, with
            ``ann_file`` set to the one of the dataset.
        batch_size (int): Images per forward. Defaults to 16.
        rule, seed, amp: See :class:`PolicyEvaluator`; the seed is also that of the
            choice of images.
        finetune (dict | None): See :class:`PolicyEvaluator`. Its images are those of
            the training set that are not scored on.
        augment (bool): Recalibrate batch norms on the calibration images under the
            training pipeline, as the statistics of the checkpoint were found. Other
            augmentation than small crops and flips shifts statistics away from those
            of test images. Defaults to False: under the test pipeline.
    """

    def __init__(
        self,
        metric: str,
        images: Count | None = None,
        calibration_images: Natural | None = None,
        dynamic_bn: Literal[MODES] = 'paired',
        dataset: dict | None = None,
        evaluator: dict | list | None = None,
        batch_size: Count = 16,
        rule: Literal[RULES] = 'greater',
        seed: Natural = 0,
        amp: bool = False,
        finetune: dict | None = None,
        augment: bool = False,
    ) -> None:
        super().__init__(metric, dynamic_bn, rule, seed, amp, finetune)
        if augment and dataset:
            raise CompressionError(
                'augment takes images of the training set; leave out the dataset of '
                'the evaluator, or augment.')
        self.images, self.calibration_images = images, calibration_images
        self.dataset, self.evaluator = dataset, evaluator
        self.batch_size, self.augment = batch_size, augment
        self._data: dict[str, Any] = dict(dataset=dataset, metrics=evaluator)

    @property
    def signature(self) -> dict:
        """See :attr:`PolicyEvaluator.signature`; the data once it is prepared."""
        found = dict(
            super().signature, images=self.images, batch_size=self.batch_size,
            calibration_images=self.calibration_images, data=plain(self._data))
        if self.augment:
            found['augment'] = True
        return found

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
        self.cfg = cfg
        spec = self.dataset or search_dataset(cfg)
        dataset = build_dataset(spec)
        self._share(len(dataset))
        wanted = [self.images, self.calibration_images]
        scored, calibrated = pick(len(dataset), wanted, self.seed)
        load = model.data_preprocessor
        scoring = load_batches(dataset, scored, load, self.batch_size)
        calibration = load_batches(dataset, calibrated, load, self.batch_size)
        augmented = augmented_batches(
            cfg, load, calibrated, self.batch_size, self.seed,
        ) if self.augment and len(calibrated) else []
        training: list[Batch] = []
        if self.finetuning.steps:
            # Another dataset than the training set has no images in common with it.
            held_out = [] if self.dataset else scored
            training = training_batches(
                cfg, load, self.finetuning, held_out, self.seed)
        self.keep(model, scoring, calibration,
                  augmented if self.augment else None, training)
        metrics = copy.deepcopy(self.evaluator or cfg.get('val_evaluator'))
        if not metrics:
            raise CompressionError(
                'The config has no val_evaluator; give the evaluator its metrics: '
                'evaluator=dict(type=...).')
        self._metrics = Evaluator(_with_annotations(metrics, spec, dataset))
        self._metrics.dataset_meta = dataset.metainfo
        self._restrict(dataset, scored)
        self._sign(spec, metrics, content_digest(dataset, [*scored, *calibrated]))

    def _share(self, length: int) -> None:
        """Say how many images are for what, where nobody has."""
        plenty = length >= IMAGES + CALIBRATION_IMAGES
        if self.images is None:
            self.images = IMAGES if plenty else max(1, length // 2)
        if self.calibration_images is None:
            self.calibration_images = CALIBRATION_IMAGES if plenty else length // 4

    def _sign(self, spec: dict, metrics: dict | list, content: str) -> None:
        """Note what scores depend on of the data and of what is done to it."""
        model = self.cfg.get('model') or {}
        self._data = without_places(dict(
            dataset=spec, content=content, test_cfg=model.get('test_cfg'),
            preprocessor=model.get(
                'data_preprocessor', self.cfg.get('data_preprocessor'))))
        if self.metric not in ('loss', 'stage_loss', *REFERENCES):
            self._data['metrics'] = without_places(metrics)
        if self.augment or self.finetuning.steps:
            training = self.cfg.train_dataloader['dataset']
            # Unless it is what is scored on, its content is not looked at.
            self._data['training'] = training if self.dataset else \
                without_places(training)

    def _restrict(self, dataset: object, numbers: Sequence[int]) -> None:
        """COCO metrics count every image of their file unless told which ones."""
        for metric in self._metrics.metrics:
            if getattr(metric, '_coco_api', None) is not None:
                metric.img_ids = [
                    dataset.get_data_info(int(i))['img_id'] for i in numbers]

    def metrics_of(self, model: nn.Module) -> Mapping[str, Any]:
        """See :meth:`PolicyEvaluator.metrics_of`; at full precision."""
        kind = kind_of(model)
        log = MMLogger.get_current_instance()
        for metric in self._metrics.metrics:
            metric.results.clear()  # of an evaluation that was broken off
        with quiet(log), full_precision(self._metrics):
            for batch in self.scoring:
                self._metrics.process(kind.predict(model, batch), None)
            return self._metrics.evaluate(self.images)

    def other_images(
        self, count: int, batch_size: int, dataset: dict | None = None,
        augment: bool = False,
    ) -> Images:
        """See :meth:`PolicyEvaluator.other_images`."""
        if augment and (dataset or self.dataset):
            raise CompressionError(
                'augment takes images of the training set; leave out the dataset of '
                'prices and evaluator, or augment.')
        spec = dataset or self.dataset or search_dataset(self.cfg)
        built = build_dataset(spec)
        others = [] if dataset else [self.images, self.calibration_images]
        numbers = pick(len(built), [*others, count], self.seed)[-1]
        preprocessor = self.model.data_preprocessor

        def load(part: slice) -> list[Batch]:
            if augment:
                return augmented_batches(self.cfg, preprocessor, numbers[part],
                                         batch_size, part.start or 0)
            return load_batches(built, numbers[part], preprocessor, batch_size)

        return Images(load, dict(
            preprocessing=[b.flatten().tolist() for b in preprocessor.buffers()],
            calibration=[self.calibration_images, self.seed,
                         *['augmented'] * self.augment],
            compression=repr(self.cfg.get('compression')),
            dataset=repr(sorted(spec.items(), key=str)), images=numbers.tolist()))


def _with_annotations(metrics: dict | list, spec: dict, dataset: object) -> list[dict]:
    """Point metrics that read an annotation file to the one of the dataset."""
    metrics = [metrics] if isinstance(metrics, dict) else list(metrics)
    for metric in metrics:
        if metric.get('ann_file'):
            metric['ann_file'] = getattr(dataset, 'ann_file', None) or osp.join(
                spec.get('data_root', ''), spec['ann_file'])
    return metrics


@EVALUATORS.register_module()
class StageLossEvaluator(StageLosses, DatasetEvaluator):
    """Scores a policy by its stages' losses on images of a config's datasets.

    Args:
        stages, temperature: See :class:`StageLosses`.
        kwargs: See :class:`DatasetEvaluator`.
    """
