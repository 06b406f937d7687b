"""Scoring a plain module by a user's function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from ..data.images import Batch
from ..errors import DataError
from .policy_evaluator import Images, PolicyEvaluator


class FunctionEvaluator(PolicyEvaluator):
    """Scores policies by a function of the model, or by a distance from the dense one.

    Args:
        metric (str): The score's name and version; studies are told apart by it, not by
            the function. ``'distance'`` and ``'loss'`` need no function.
        score (Callable | None): From the model, which acts as the policy, to a number.
        train (Sequence[Batch]): Labelled batches, for prices. Defaults to none: prices
            are computed on the calibration images.
        kwargs: See :class:`PolicyEvaluator`.
    """

    def __init__(
        self, metric: str, score: Callable[[nn.Module], float] | None = None,
        train: Sequence[Batch] = (), **kwargs: Any,
    ) -> None:
        super().__init__(metric, **kwargs)
        self._score, self._train = score, list(train)

    @property
    def images(self) -> int:
        """Images that the evaluator itself scores on; a function has its own."""
        return sum(len(batch.inputs) for batch in self.scoring)

    @property
    def calibration_images(self) -> int:
        """Images to calibrate on."""
        return sum(len(batch.inputs) for batch in self.calibration)

    @property
    def signature(self) -> dict:
        """See :attr:`PolicyEvaluator.signature`."""
        return dict(super().signature, calibration_images=self.calibration_images)

    def metrics_of(self, model: nn.Module) -> Mapping[str, Any]:
        """See :meth:`PolicyEvaluator.metrics_of`."""
        return {self.metric: self._score(model)}

    def other_images(
        self, count: int, batch_size: int, dataset: Any = None, augment: bool = False
    ) -> Images:
        """See :meth:`PolicyEvaluator.other_images`; batches stay as they came."""
        found = self._train or self.calibration
        if not found:
            raise DataError(
                'Prices need images; give prepare() train=... or calibration=....')

        def load(part: slice) -> list[Batch]:
            return list(_between(found, part.start or 0, part.stop or count))

        there = sum(len(batch.inputs) for batch in found)
        if there < count:
            raise DataError(
                f'Prices are wanted of {count} images, but prepare() was given '
                f'{there}.')
        return Images(load, dict(images=count, labelled=bool(self._train)))


def _between(batches: Sequence[Batch], start: int, stop: int):
    """Samples ``start`` to ``stop``, batch by batch."""
    first = 0
    for batch in batches:
        last = first + len(batch.inputs)
        part = slice(max(start - first, 0), min(stop, last) - first)
        if part.start < part.stop:
            yield Batch(batch.inputs[part], batch.data_samples[part])
        first = last
