"""A few SGD steps before a policy is scored."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import MessageHub
from torch import nn

from ..data.images import Batch, build_dataset
from ..errors import CompressionError, DataError

KEPT_BATCHES = 50
"""Batches that are decoded once and kept; more steps go through them again."""


@dataclass(frozen=True)
class Finetuning:
    """How a policy is trained before it is scored (LeGR, CVPR 2020, sec. 4).

    Args:
        steps (int): SGD steps. Defaults to 0: none.
        lr (float): Learning rate. Defaults to 0.01.
        momentum (float): Defaults to 0.9.
        weight_decay (float): Defaults to 5e-4.
        batch_size (int): Images per step. Defaults to 128.
    """

    steps: int = 0
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 128

    @classmethod
    def read(cls, options: dict | None) -> Finetuning:
        """Read the option of an evaluator.

        Raises:
            CompressionError: Unknown names, or numbers out of range.
        """
        try:
            found = cls(**(options or {}))
        except TypeError as error:
            raise CompressionError(f'finetune is malformed: {error}.') from None
        if found.steps < 0 or found.lr <= 0 or found.batch_size < 1:
            raise CompressionError(
                'finetune needs steps >= 0, lr > 0 and batch_size >= 1, not '
                f'{asdict(found)}.')
        return found


def finetune(
    model: nn.Module, batches: Sequence[Batch], options: Finetuning, seed: int
) -> bool:
    """Train a model in place for a few steps; it is in evaluation mode afterwards.

    Args:
        model (nn.Module): A classifier or detector of OpenMMLab, physically small.
        batches (Sequence[Batch]): From :func:`training_batches`; taken in turn.
        options (Finetuning): How.
        seed (int): Of dropout and the like; the global generators are left alone.

    Returns:
        bool: False if the loss was not finite; the training then stopped there.
    """
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=options.lr,
        momentum=options.momentum, weight_decay=options.weight_decay)
    model.train()
    try:
        with seeded(seed), torch.enable_grad():
            for step in range(options.steps):
                batch = batches[step % len(batches)]
                losses = model(batch.inputs, batch.samples(), mode='loss')
                loss = model.parse_losses(losses)[0]
                if not torch.isfinite(loss):
                    return False
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    finally:
        model.eval()
    return True


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


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators, which augmentations use; restore them after."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
