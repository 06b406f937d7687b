"""Images of the datasets that a config describes."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os.path as osp
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from torch import nn

from ..data.images import Batch, fast_layout
from ..errors import DataError
from ..plain import plain
from .config_files import processed_dataset


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
    tested = processed_dataset(test['dataset'])
    if 'pipeline' not in tested:
        raise DataError('The test dataset of the config has no pipeline.')
    dataset['pipeline'] = copy.deepcopy(tested['pipeline'])
    return dataset


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
            'train_dataloader.dataset.data_root=...; configs that come with mmcompress '
            'take DATA_ROOT=... instead, see configs/README.md.') from error


PLACES = ('data_root', 'ann_file', 'data_prefix', 'backend_args')
"""Options of datasets and metrics that say where files are."""


def without_places(settings: Any) -> Any:
    """Settings of datasets or metrics that are the same wherever the files are."""
    if isinstance(settings, Mapping):
        return {k: without_places(v) for k, v in settings.items() if k not in PLACES}
    if isinstance(settings, (list, tuple)):
        return [without_places(value) for value in settings]
    return settings


def content_digest(dataset: Any, numbers: Iterable[int]) -> str:
    """Hash of images and annotations wherever their files are, 16 hexadecimal digits.

    Args:
        dataset: Any mmengine dataset; of others nothing is known.
        numbers (Iterable[int]): Which images.
    """
    digest = hashlib.sha256()
    for number in numbers if hasattr(dataset, 'get_data_info') else ():
        for key, value in sorted(dataset.get_data_info(int(number)).items()):
            if isinstance(value, str):
                value = Path(value).read_bytes() if osp.isfile(value) else \
                    osp.basename(value)
            elif isinstance(value, np.ndarray):
                value = value.tobytes()
            digest.update(value if isinstance(value, bytes) else
                          json.dumps([key, plain(value)]).encode())
    return digest.hexdigest()[:16]


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
        batches.append(Batch(fast_layout(data['inputs']), data['data_samples']))
    return batches
