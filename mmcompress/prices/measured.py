"""Prices by measurement: what each choice does alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import nn

from ..data.images import Batch
from ..errors import DataError
from ..evaluation.distance import REFERENCES
from ..evaluation.dynamic_bn import FRESH, MODES, dynamic_bn
from ..kinds import kind_of
from ..options import Count
from ..registry import PRICES
from .base import PriceSource, Subject
from .store import PriceStore
from .table import PriceTable

MEASURES = ('loss', *REFERENCES)


@PRICES.register_module()
class MeasuredPrices(PriceSource):
    """The price of a choice is ``L(only this choice) - L(dense)``.

    One evaluation for every choice of the space: slower than gradients, and without
    their assumptions.

    Args:
        images (int): Number of images. Defaults to 256.
        batch_size (int): Images at a time. Defaults to 16.
        dataset, augment: See :class:`PriceSource`.
        dynamic_bn (str): How batch norms follow the choice; see
            :func:`mmcompress.evaluation.dynamic_bn.dynamic_bn`. 'recalibrate' uses
            the evaluator's calibration images. Defaults to 'off'.
        measure (str): What L is: ``'loss'``, of training, or ``'distance'`` or
            ``'detections'``, how far raw outputs or decoded boxes and scores are from
            the dense model's, which need fewer images; see
            :mod:`mmcompress.evaluation.distance`. Defaults to 'loss'.
    """

    def __init__(
        self,
        images: Count = 256,
        batch_size: Count = 16,
        dataset: dict | None = None,
        augment: bool = False,
        dynamic_bn: Literal[MODES] = 'off',
        measure: Literal[MEASURES] = 'loss',
    ) -> None:
        super().__init__(images, batch_size, dataset, augment)
        self.mode, self.measure = dynamic_bn, measure

    @property
    def settings(self) -> dict:
        """See :attr:`PriceSource.settings`."""
        other = {} if self.measure == 'loss' else dict(measure=self.measure)
        return dict(super().settings, dynamic_bn=self.mode, **other)

    def _compute(
        self, subject: Subject, load: Callable[[slice], list[Batch]], store: PriceStore
    ) -> PriceTable:
        space = subject.space

        @cache
        def measuring() -> Callable[[nn.Module], float]:
            return self._measuring(subject, load(slice(None)))

        def loss(row: np.ndarray) -> float:
            measure = measuring()
            torch.manual_seed(0)  # detectors draw which boxes they train on
            with torch.no_grad(), self._acting(subject, row):
                return measure(subject.model)

        dense = store.get('dense', ())
        if dense is None:
            dense = np.array(loss(space.highest))
            store.put('dense', dense)
        prices = {}
        for done, column in enumerate(space.free.tolist()):
            name = f'column_{column:05d}'
            losses = store.get(name, (len(space.choices[column]),))
            if losses is None:
                rows = np.repeat(space.highest[None], len(space.choices[column]), 0)
                rows[:, column] = space.choices[column]
                # The last choice is the uncompressed one.
                losses = np.array([*map(loss, rows[:-1]), float(dense)])
                if not np.isfinite(losses).all():
                    raise DataError(
                        f'The loss is not finite when only column {column} of the '
                        'space is compressed; remove its smallest choices.')
                store.put(name, losses)
                subject.log(f'Prices: {done + 1} of {len(space.free)} columns')
            prices[column] = losses - dense
        return PriceTable.from_columns(space, prices)

    @contextmanager
    def _acting(self, subject: Subject, row: np.ndarray) -> Iterator[None]:
        """The model acts as a row of the space says."""
        policy = subject.space.decode(row)[0]
        norms = subject.evaluator.norm_batches(subject.mutator) \
            if self.mode in FRESH else ()
        with subject.mutator.acting(policy), dynamic_bn(
                subject.model, self.mode, norms):
            yield

    def _measuring(
        self, subject: Subject, images: list[Batch]
    ) -> Callable[[nn.Module], float]:
        """The function that measures the model as it is."""
        if self.measure in REFERENCES:
            with self._acting(subject, subject.space.highest):
                return REFERENCES[self.measure](subject.model, images).distance

        def mean_loss(model: nn.Module) -> float:
            loss = kind_of(model).loss
            total = sum(float(loss(model, x)) * len(x.inputs) for x in images)
            return total / self.images
        return mean_loss
