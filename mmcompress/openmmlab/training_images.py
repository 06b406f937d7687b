"""Images of the training set under the training pipeline."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from torch import nn

from ..data.images import Batch
from ..errors import DataError
from ..evaluation.finetune import Finetuning, seeded
from .images import build_dataset

KEPT_BATCHES = 50
"""Batches that are decoded once and kept; more steps go through them again."""


def training_batches(
    cfg: Config,
    preprocessor: nn.Module,
    options: Finetuning,
    held_out: Sequence[int],
    seed: int,
) -> list[Batch]:
    """Augmented batches of the training set without the images scored on.

    Every policy is trained on the same batches. Augmentations that mix images mix
    only these, as the others leave the innermost dataset.

    Args:
        cfg (Config): Its ``train_dataloader`` says which data.
        preprocessor (nn.Module): The model's; it decides the device.
        options (Finetuning): How many images.
        held_out (Sequence[int]): Images of the training set to leave out.
        seed (int): Of their order and augmentation.

    Raises:
        DataError: Too few images are left.
    """
    spec, inner, allowed = _training_set(cfg)
    numbers = np.delete(allowed, np.asarray(held_out, int))
    if len(numbers) < options.batch_size:
        raise DataError(
            f'{len(numbers)} training images are left beside the {len(held_out)} to '
            f'score on, fewer than one batch of {options.batch_size} to fine-tune '
            'with. Lower images or finetune.batch_size of the evaluator.')
    inner['indices'] = numbers.tolist()
    with seeded(seed):
        dataset = build_dataset(spec)
        count = min(options.steps, KEPT_BATCHES)
        return list(_load(dataset, preprocessor, count, options.batch_size))


def augmented_batches(
    cfg: Config,
    preprocessor: nn.Module,
    images: Sequence[int],
    batch_size: int,
    seed: int,
) -> list[Batch]:
    """Some images of the training set under the training pipeline.

    Args:
        cfg (Config): Its ``train_dataloader`` says which data.
        preprocessor (nn.Module): The model's; it decides the device.
        images (Sequence[int]): Which; what does not fill a batch is left out.
            Augmentations that mix images mix only these.
        batch_size (int): Images per batch, as far as there are so many.
        seed (int): Of their order and augmentation.
    """
    spec, inner, allowed = _training_set(cfg)
    inner['indices'] = allowed[np.asarray(images, int)].tolist()
    size = min(batch_size, len(images))
    with seeded(seed):
        return list(_load(
            build_dataset(spec), preprocessor, len(images) // size, size))


def _training_set(cfg: Config) -> tuple[dict, dict, np.ndarray]:
    """Config of the training set, its innermost part, and the images of that."""
    if not cfg.get('train_dataloader'):
        raise DataError(
            'finetune and augment of the evaluator need a train_dataloader.')
    spec = copy.deepcopy(cfg.train_dataloader['dataset'])
    inner = spec
    while 'dataset' in inner:  # MultiImageMixDataset, RepeatDataset, ...
        inner = inner['dataset']
    # The innermost dataset may itself be one of few images already.
    allowed = inner.get('indices')
    if allowed is None:
        allowed = range(len(build_dataset(inner)))
    elif isinstance(allowed, int):
        allowed = range(allowed)
    return spec, inner, np.array(allowed)


def _load(
    dataset: Any, preprocessor: nn.Module, count: int, batch_size: int
) -> Iterator[Batch]:
    """Batches of random images, each image once before any comes again."""
    # Augmentations of whole batches keep a state, and ask for the iteration.
    preprocessor = copy.deepcopy(preprocessor)
    hub, order = MessageHub.get_current_instance(), np.empty(0, int)
    for step in range(count):
        hub.update_info('iter', step)
        if len(order) < batch_size:
            order = np.random.permutation(len(dataset))
        numbers, order = order[:batch_size], order[batch_size:]
        items = [dataset[int(i)] for i in numbers]
        with torch.no_grad():
            data = preprocessor(pseudo_collate(items), True)
        yield Batch(data['inputs'], data['data_samples'])


def load_train_batches(cfg: Config, preprocessor: nn.Module, batches: int, seed: int
                       ) -> list[Batch]:
    """Batches of the training loader, augmented, as training sees them."""
    loader = Runner.build_dataloader(copy.deepcopy(cfg.train_dataloader), seed=seed)
    found = []
    for data in loader:
        data = preprocessor(data, True)
        found.append(Batch(data['inputs'], data['data_samples']))
        if len(found) == batches:
            break
    return found
