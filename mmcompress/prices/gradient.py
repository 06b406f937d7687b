"""Prices by second-order Taylor expansion, from gradients of single samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from ..data.images import Batch
from ..errors import CompressionError, DataError
from ..kinds import kind_of
from ..options import Count
from ..registry import PRICES
from .base import PriceSource, Subject
from .layout import Layout
from .products import Probe, per_sample_products
from .store import PriceStore
from .table import PriceTable

PART = 64
"""Images between two writes to disk."""


@PRICES.register_module()
class GradientPrices(PriceSource):
    """Gauss-Newton price ``1/2 mean_n <dW, g[n]>^2`` of every choice.

    Unified two-stage framework (Pattern Recognition 140, 2023): the loss expanded to
    second order at the trained optimum, the Hessian block-diagonal and replaced by the
    second moment of the gradients ``g[n]`` of single samples (not by the square of
    their mean, which vanishes at an optimum).

    Args:
        images (int): Number of images. Defaults to 1024.
        batch_size (int): Images at a time; memory is that of training with so many,
            without gradients of weights. Models whose loss mixes the images of a batch
            (most detectors) are run one image at a time. Defaults to 16.
        dataset, augment: See :class:`PriceSource`.
    """

    def __init__(
        self,
        images: Count = 1024,
        batch_size: Count = 16,
        dataset: dict | None = None,
        augment: bool = False,
    ) -> None:
        super().__init__(images, batch_size, dataset, augment)

    def _compute(
        self, subject: Subject, load: Callable[[slice], list[Batch]], store: PriceStore
    ) -> PriceTable:
        terms = self.sample_terms(subject, load, store)
        return Layout(subject.graph, subject.space).table(mean_square(terms))

    def sample_terms(
        self, subject: Subject, load: Callable[[slice], list[Batch]], store: PriceStore
    ) -> np.ndarray:
        """Inner products ``<dW, g[n]>`` of every sample, shape ``(N, T)``."""
        layout = Layout(subject.graph, subject.space)
        model, parts = subject.model, []
        probes, mixed = None, None
        for start in range(0, self.images, PART):
            name = f'terms_{start:06d}'
            part = store.get(
                name, (min(PART, self.images - start), sum(layout.sizes())))
            if part is None:
                torch.manual_seed(start)  # detectors draw which boxes they train on
                batches = load(slice(start, start + PART))
                if probes is None:
                    quantiser = getattr(subject.mutator, 'quantiser', None)
                    probes = layout.probes(model, quantiser)
                    mixed = mixes_images(model, batches[0])
                part = np.concatenate([
                    self._terms(model, layout, probes, batch)
                    for batch in _pieces(batches, mixed)])
                if not np.isfinite(part).all():
                    raise DataError(
                        'The loss of an image has no finite gradient; check the '
                        'checkpoint and the annotations.')
                store.put(name, part)
                subject.log(f'Prices: {start + len(part)} of {self.images} images')
            parts.append(part)
        return np.concatenate(parts)

    @staticmethod
    def _terms(
        model: nn.Module, layout: Layout, probes: dict[str, Probe], batch: Batch
    ) -> np.ndarray:
        count, kind = len(batch.inputs), kind_of(model)

        def loss(inputs: Tensor) -> Tensor:
            # The mean over the images, hence times their number.
            return kind.loss(model, Batch(inputs, batch.data_samples)) * count

        found = per_sample_products(model, probes, batch.inputs, loss)
        if idle := sorted(set(probes) - set(found)):
            raise CompressionError(
                f'The training loss does not depend on the layer {idle[0]!r} (and '
                f'{len(idle) - 1} more), so it has no gradient price; use '
                "prices=dict(type='MeasuredPrices').")
        return layout.terms(found, count).numpy()


def mean_square(terms: np.ndarray) -> np.ndarray:
    """Prices ``(T,)`` from the inner products ``(N, T)`` of N samples."""
    return 0.5 * np.square(terms).mean(0)


def mixes_images(model: nn.Module, batch: Batch) -> bool:
    """Whether the loss of a batch is not the mean of the losses of its images."""
    if len(batch.inputs) < 2:
        return True
    loss = partial(kind_of(model).loss, model)
    with torch.no_grad():
        singles = [float(loss(piece)) for piece in _pieces([batch], True)]
        return not np.isclose(float(loss(batch)), np.mean(singles), rtol=1e-3)


def _pieces(batches: list[Batch], single: bool) -> Iterator[Batch]:
    for batch in batches:
        if not single:
            yield batch
            continue
        for i in range(len(batch.inputs)):
            yield Batch(batch.inputs[i:i + 1], batch.data_samples[i:i + 1])
