"""Registries of mmcompress: children of mmengine's where mmengine has one."""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry

HOOKS = Registry(
    'hook', parent=MMENGINE_HOOKS, scope='mmcompress', locations=['mmcompress.engine'])
LOOPS = Registry(
    'loop', parent=MMENGINE_LOOPS, scope='mmcompress', locations=['mmcompress.engine'])
MODELS = Registry(
    'model', parent=MMENGINE_MODELS, scope='mmcompress',
    locations=['mmcompress.models'])
DATASETS = Registry(
    'dataset', parent=MMENGINE_DATASETS, scope='mmcompress',
    locations=['mmcompress.datasets'])
METRICS = Registry(
    'metric', parent=MMENGINE_METRICS, scope='mmcompress',
    locations=['mmcompress.evaluation'])

MUTATORS = Registry('mutator', scope='mmcompress', locations=['mmcompress.mutators'])
SEARCHERS = Registry('searcher', scope='mmcompress', locations=['mmcompress.search'])
EVALUATORS = Registry(
    'policy evaluator', scope='mmcompress', locations=['mmcompress.evaluation'])
PRICES = Registry(
    'source of prices', scope='mmcompress', locations=['mmcompress.evaluation'])
COSTS = Registry('cost', scope='mmcompress', locations=['mmcompress.costs'])
"""From a name to ``f(table, widths, weight_bits, activation_bits) -> Tensor``."""
