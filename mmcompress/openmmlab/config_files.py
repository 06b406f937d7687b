"""Reading configs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

SCOPE = '_scope_'


def read_config(path: str | Path) -> Config:
    """Read a config, which may inherit from ``mmcompress::...``.

    mmengine looks up all types of a config that is inherited from a package in that
    package alone. The configs of mmcompress describe models of mmdet and mmpretrain, so
    their types belong to the ``default_scope``, as they do where the file is read
    itself.
    """
    cfg = Config.fromfile(path)
    forget_scope(cfg._cfg_dict)
    return cfg


def forget_scope(value: Any) -> None:
    """Let the types of a part of a config belong to the ``default_scope``."""
    if isinstance(value, dict):
        # dict's own methods, as those of a ConfigDict build lazy objects.
        if dict.get(value, SCOPE) == 'mmcompress':
            del value[SCOPE]
        value = dict.values(value)
    elif not isinstance(value, list | tuple):
        return
    for part in value:
        forget_scope(part)


def processed_dataset(dataset: Mapping) -> Mapping:
    """The outermost dataset among its wrappers that has a pipeline.

    Args:
        dataset (Mapping): Config of a dataset. One without a pipeline is returned as it
            is, or the innermost of it.
    """
    while 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset
