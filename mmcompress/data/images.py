"""Batches of images that are decoded once and stay in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError


@dataclass(frozen=True, eq=False)
class Batch:
    """Images after preprocessing, on the device.

    Args:
        inputs (Tensor): ``(N, C, H, W)``.
        data_samples (list): Their annotations.
    """

    inputs: Tensor
    data_samples: list

    def halves(self) -> list[Batch]:
        """The batch in two, or in one if it is of one image."""
        middle = (len(self.inputs) + 1) // 2
        parts = (slice(0, middle), slice(middle, None))
        return [Batch(self.inputs[part], self.data_samples[part]) for part in parts
                if len(self.inputs[part])]

    def samples(self) -> list:
        """Fresh copies, as prediction writes into them."""
        return [sample.clone() for sample in self.data_samples]


def first(batches: Sequence[Batch], count: int | None) -> list[Batch]:
    """The first images, in batches as they are; all for None."""
    found: list[Batch] = []
    for batch in batches:
        left = None if count is None else count - sum(len(b.inputs) for b in found)
        if left is not None and left < len(batch.inputs):
            batch = Batch(batch.inputs[:left], batch.data_samples[:left])
        if len(batch.inputs):
            found.append(batch)
    return found


def pick(length: int, wanted: Sequence[int], seed: int) -> list[np.ndarray]:
    """Disjoint random sets of image numbers, each in ascending order.

    Args:
        length (int): Images there are.
        wanted (Sequence[int]): Sizes of the sets.
        seed (int): Seed of the choice.

    Raises:
        DataError: Fewer images than wanted.
    """
    if sum(wanted) > length:
        raise DataError(
            f'{" + ".join(map(str, wanted))} images are wanted for scoring and '
            f'calibration, which must not overlap, but the dataset has {length}. '
            'Lower images or calibration_images of the evaluator.')
    order = np.random.default_rng(seed).permutation(length)
    ends = np.cumsum(wanted)
    return [np.sort(order[end - n:end]) for n, end in zip(wanted, ends)]


def fast_layout(images: Tensor) -> Tensor:
    """Channels last on the CPU, where every layer after the first follows suit.

    oneDNN then need not reorder every layer's input into blocks of channels, which
    saves 15-25 % of an evaluation; see docs/measurements/foundation.md.
    """
    if images.device.type != 'cpu' or images.dim() != 4:
        return images
    return images.contiguous(memory_format=torch.channels_last)
