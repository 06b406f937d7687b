"""Images that are decoded once and stay in memory."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch import Tensor, nn

from ..errors import DataError
from ..openmmlab.detectors.inputs import is_detector


@dataclass(frozen=True, eq=False)
class Batch:
    """Images after the model's data preprocessor, on the device.

    Args:
        inputs (Tensor): ``(N, C, H, W)``.
        data_samples (list): Their annotations.
    """

    inputs: Tensor
    data_samples: list

    def samples(self) -> list:
        """Fresh copies, as prediction writes into them."""
        return [sample.clone() for sample in self.data_samples]


def forward_raw(model: nn.Module, batch: Batch) -> Any:
    """Raw outputs for a batch: no post-processing, no loss."""
    if is_detector(model):
        return model(batch.inputs, batch.samples(), mode='tensor')
    if isinstance(model, BaseModel):
        return model(batch.inputs, mode='tensor')
    return model(batch.inputs)


def loss_of(model: nn.Module, batch: Batch) -> Tensor:
    """The loss that the model is trained with, as one number."""
    losses = model(batch.inputs, batch.samples(), mode='loss')
    return model.parse_losses(losses)[0]


def search_dataset(cfg: Config) -> dict:
    """The training images under the test pipeline.

    Searching on the validation set would leave nothing to report on, so policies
    are scored on training images, without augmentation.

    Args:
        cfg (Config): A training configuration.

    Returns:
        dict: Config of the dataset.
    """
    train, test = cfg.get('train_dataloader'), cfg.get('test_dataloader')
    if not train or not test:
        raise DataError(
            'The config has no train_dataloader and test_dataloader to take images '
            'from; give the evaluator a dataset=dict(...).')
    dataset = copy.deepcopy(train['dataset'])
    while 'dataset' in dataset:  # MultiImageMixDataset, RepeatDataset, ...
        dataset = dataset['dataset']
    dataset['pipeline'] = copy.deepcopy(_pipeline(test['dataset']))
    return dataset


def _pipeline(dataset: dict) -> list:
    while 'pipeline' not in dataset:
        if 'dataset' not in dataset:
            raise DataError('The test dataset of the config has no pipeline.')
        dataset = dataset['dataset']
    return dataset['pipeline']


def build_dataset(cfg: dict) -> Any:
    """Build a dataset; a missing file is an error that says which.

    Raises:
        DataError: Its files are missing or it is empty.
    """
    with reading(cfg):
        dataset = DATASETS.build(cfg)
        dataset.full_init()
    if len(dataset) == 0:
        raise DataError(f'{cfg.get("type")} found no image; check its ann_file.')
    return dataset


@contextlib.contextmanager
def reading(cfg: dict) -> Iterator[None]:
    """Within the block a dataset is built.

    Args:
        cfg (dict): Its configuration.

    Raises:
        DataError: Its files are missing.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, RuntimeError) as error:
        raise DataError(
            f'The images of {cfg.get("type")} are missing: {error}. Correct data_root '
            'in the config, or e.g. --cfg-options '
            'train_dataloader.dataset.data_root=...') from error


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


def load_batches(
    dataset: Any, numbers: Iterable[int], preprocessor: nn.Module, batch_size: int
) -> list[Batch]:
    """Decode images once, preprocess them and keep them on the device.

    Args:
        dataset: Any mmengine dataset.
        numbers (Iterable[int]): Which images, in order.
        preprocessor (nn.Module): The model's; it decides the device.
        batch_size (int): Images per batch.

    Returns:
        list[Batch]: In order; the last one may be smaller.
    """
    numbers, batches = list(numbers), []
    for start in range(0, len(numbers), batch_size):
        items = [dataset[int(i)] for i in numbers[start:start + batch_size]]
        with torch.no_grad():
            data = preprocessor(pseudo_collate(items), False)
        batches.append(Batch(_fast_layout(data['inputs']), data['data_samples']))
    return batches


def _fast_layout(images: Tensor) -> Tensor:
    """Channels last on the CPU, where every layer after the first follows suit.

    oneDNN then need not reorder every layer's input into blocks of channels, which
    saves 15-25 % of an evaluation; see docs/foundation.md.
    """
    if images.device.type != 'cpu' or images.dim() != 4:
        return images
    return images.contiguous(memory_format=torch.channels_last)


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
