"""Prices by measurement: each choice alone, and how much the loss rises."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ...errors import DataError
from ...registry import PRICES
from ...search.prices import PriceTable
from ..dynamic_bn import dynamic_bn
from ..images import Batch, loss_of
from .base import PriceSource, Subject
from .store import PriceStore


@PRICES.register_module()
class MeasuredPrices(PriceSource):
    """The price of a choice is ``L(only this choice) - L(dense)``.

    One evaluation of the loss for every choice of the space: slower than gradients,
    and without their assumptions.

    Args:
        images (int): Number of images. Defaults to 256.
        batch_size (int): Images at a time. Defaults to 16.
        dataset, augment: See :class:`PriceSource`.
        dynamic_bn (str): How batch norms follow the choice; see
            :func:`mmcompress.evaluation.dynamic_bn.dynamic_bn`. 'recalibrate' uses
            the evaluator's calibration images. Defaults to 'off'.
    """

    def __init__(
        self,
        images: int = 256,
        batch_size: int = 16,
        dataset: dict | None = None,
        augment: bool = False,
        dynamic_bn: str = 'off',
    ) -> None:
        super().__init__(images, batch_size, dataset, augment)
        self.mode = dynamic_bn

    @property
    def settings(self) -> dict:
        """See :attr:`PriceSource.settings`."""
        return dict(super().settings, dynamic_bn=self.mode)

    def _compute(
        self, subject: Subject, load: Callable[[slice], list[Batch]], store: PriceStore
    ) -> PriceTable:
        space = subject.space
        images: list[Batch] = []

        def loss(row: np.ndarray) -> float:
            if not images:
                images.extend(load(slice(None)))
            return self._loss(subject, images, row)

        dense = store.get('dense')
        if dense is None:
            dense = np.array(loss(space.highest))
            store.put('dense', dense)
        prices = {}
        for done, column in enumerate(space.free.tolist()):
            name = f'column_{column:05d}'
            losses = store.get(name)
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

    def _loss(self, subject: Subject, images: list[Batch], row: np.ndarray) -> float:
        model, total = subject.model, 0.0
        policy = subject.space.decode(row)[0]
        torch.manual_seed(0)  # detectors draw which boxes they train on
        with torch.no_grad(), subject.mutator.acting(policy), \
                dynamic_bn(model, self.mode, subject.evaluator.recalibration):
            for batch in images:
                total += float(loss_of(model, batch)) * len(batch.inputs)
        return total / self.images
