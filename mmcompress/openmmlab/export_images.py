"""Calibration images for exporting."""

from __future__ import annotations

import numpy as np
from mmengine.config import Config
from torch import nn
from torch.nn.functional import pad

from ..data.images import Batch, pick
from ..errors import DataError
from ..kinds import kind_of
from .images import build_dataset, load_batches, search_dataset


def calibration_batches(
    cfg: Config, model: nn.Module, shape: tuple[int, ...], count: int = 32,
    batch: int = 1, seed: int = 0,
) -> list[Batch]:
    """Preprocessed training images in the shape that a file takes.

    Args:
        cfg (Config): Says where the training images are.
        model (nn.Module): Its data preprocessor is used.
        shape (tuple[int, ...]): ``(C, H, W)``; smaller images are padded.
        count (int): Number of batches. Defaults to 32.
        batch (int): Images in each. Defaults to 1.
        seed (int): Seed of the choice of images. Defaults to 0.

    Returns:
        list[Batch]: At most ``count``, each of ``(batch, C, H, W)``.

    Raises:
        DataError: Images are missing, too few or too large.
    """
    dataset = build_dataset(search_dataset(cfg))
    [numbers] = pick(len(dataset), [min(count * batch, len(dataset))], seed)
    numbers = numbers[:len(numbers) // batch * batch]
    if not len(numbers):
        raise DataError(
            f'{len(dataset)} training images do not fill one batch of {batch}.')
    normalisation = kind_of(model).normalisation(model)
    beside = normalisation.padding if normalisation else 0.0
    found = []
    for item in load_batches(dataset, numbers, model.data_preprocessor, batch):
        height, width = item.inputs.shape[2:]
        if height > shape[1] or width > shape[2]:
            raise DataError(
                f'A calibration image of {height} x {width} does not fit into '
                f'{shape[1]} x {shape[2]}; export with --shape.')
        found.append(Batch(
            pad(item.inputs, (0, shape[2] - width, 0, shape[1] - height),
                value=beside),
            item.data_samples))
    return found


def calibration_images(
    cfg: Config, model: nn.Module, shape: tuple[int, ...], count: int = 32,
    batch: int = 1, seed: int = 0,
) -> list[np.ndarray]:
    """The images of :func:`calibration_batches`, ``(batch, C, H, W)`` each."""
    return [found.inputs.cpu().numpy() for found in calibration_batches(
        cfg, model, shape, count, batch, seed)]
