"""Registries of mmcompress: children of mmengine's where mmengine has one."""

import inspect
from collections.abc import Mapping
from typing import Any

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry

from .errors import CompressionError

HOOKS = Registry(
    'hook', parent=MMENGINE_HOOKS, scope='mmcompress',
    locations=['mmcompress.openmmlab.hooks'])
LOOPS = Registry(
    'loop', parent=MMENGINE_LOOPS, scope='mmcompress',
    locations=['mmcompress.openmmlab.loops'])
MODELS = Registry(
    'model', parent=MMENGINE_MODELS, scope='mmcompress',
    locations=['mmcompress.openmmlab.models'])
DATASETS = Registry(
    'dataset', parent=MMENGINE_DATASETS, scope='mmcompress',
    locations=['mmcompress.openmmlab.datasets'])

MUTATORS = Registry('mutator', scope='mmcompress', locations=['mmcompress.mutators'])
SEARCHERS = Registry(
    'searcher', scope='mmcompress', locations=['mmcompress.searchers'])
PREDICTORS = Registry(
    'predictor', scope='mmcompress', locations=['mmcompress.searchers.predictors'])
EVALUATORS = Registry(
    'policy evaluator', scope='mmcompress',
    locations=['mmcompress.openmmlab.evaluators'])
PRICES = Registry(
    'source of prices', scope='mmcompress',
    locations=['mmcompress.prices', 'mmcompress.supernet'])
COSTS = Registry('cost', scope='mmcompress', locations=['mmcompress.costs'])
"""From a name to ``f(table, widths, weight_bits, activation_bits) -> Tensor``."""


def build(registry: Registry, cfg: Mapping[str, Any], **given: Any) -> Any:
    """Build what a user's config describes.

    Args:
        registry (Registry): Where its type is looked up, in the scope mmcompress.
        cfg (Mapping): ``type`` and the user's arguments.
        given: Arguments that the caller adds.

    Raises:
        CompressionError: The type or an argument is unknown; says what is known.
    """
    cfg = dict(cfg)
    kind = cfg.get('type')
    registry.import_from_location()
    cls = registry.get(kind) if isinstance(kind, str) else kind
    if cls is None:
        raise CompressionError(
            f'There is no {registry.name} {kind!r}; known: '
            f'{", ".join(sorted(registry.module_dict))}. If it is yours, import its '
            'module by custom_imports.')
    signature = inspect.signature(cls)
    options = {k: v for k, v in cfg.items() if k not in ('type', '_scope_')}
    try:
        signature.bind(**options, **given)
    except TypeError as error:
        takes = [name for name in signature.parameters if name not in given]
        raise CompressionError(
            f'The {registry.name} {kind!r} {error}; it takes {", ".join(takes)}.'
        ) from error
    return registry.build(dict(cfg, **given, _scope_='mmcompress'))
