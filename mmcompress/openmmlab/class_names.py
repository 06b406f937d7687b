"""The names of the classes that a config's model predicts."""

from __future__ import annotations

from collections.abc import Mapping

from mmengine.config import Config
from mmengine.registry import DATASETS


def class_names_of(cfg: Config) -> tuple[str, ...]:
    """Class names from the test dataset's ``metainfo`` or from its class.

    Args:
        cfg (Config): A configuration; no data is read.

    Returns:
        tuple[str, ...]: Empty where neither says.
    """
    dataset = (cfg.get('test_dataloader') or {}).get('dataset', {})
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    names = (dataset.get('metainfo') or {}).get('classes')
    if names is None and dataset:
        found = dataset_class(dataset)
        names = (getattr(found, 'METAINFO', None) or {}).get('classes')
    return tuple(names or ())


def dataset_class(dataset: Mapping) -> type | None:
    """The class of a dataset's config; None if nobody has registered it."""
    kind = dataset['type']
    with DATASETS.switch_scope_and_registry(None) as registry:
        return registry.get(kind) if isinstance(kind, str) else kind
