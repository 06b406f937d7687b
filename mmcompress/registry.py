"""Registries of mmcompress: children of mmengine's where mmengine has one."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
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


NOT_OPTIONS = ('type', '_scope_')
"""Keys of a config that say what it describes."""


def build(registry: Registry, cfg: Mapping[str, Any], **given: Any) -> Any:
    """Build what a user's config describes.

    Args:
        registry (Registry): Where its type is looked up, in the scope mmcompress.
        cfg (Mapping): ``type`` and the user's arguments.
        given: Arguments that the caller adds.

    Raises:
        CompressionError: The type or an argument is unknown; says what is known.
    """
    cls = checked(registry, cfg, given)
    try:
        inspect.signature(cls).bind(**{
            k: v for k, v in cfg.items() if k not in NOT_OPTIONS}, **given)
    except TypeError as error:
        raise CompressionError(
            f'The {registry.name} {cfg["type"]!r} {error}; it takes '
            f'{", ".join(n for n in options_of(cls) if n not in given)}.') from error
    return registry.build(dict(cfg, **given, _scope_='mmcompress'))


def checked(
    registry: Registry, cfg: Mapping[str, Any], given: Iterable[str] = ()
) -> Callable:
    """The class that a user's config names, if it takes the arguments that it has.

    Args:
        registry (Registry): Where its type is looked up.
        cfg (Mapping): ``type`` and the user's arguments.
        given (Iterable[str]): Names of the arguments that the caller adds.

    Raises:
        CompressionError: The type or an argument is unknown; says what is known.
    """
    if not isinstance(cfg, Mapping):
        raise CompressionError(
            f'A {registry.name} is a dict such as dict(type=...), not {cfg!r}.')
    kind = cfg.get('type')
    registry.import_from_location()
    cls = registry.get(kind) if isinstance(kind, str) else kind
    if cls is None:
        known = sorted(registry.module_dict)
        raise CompressionError(
            f'There is no {registry.name} {kind!r}; known: {", ".join(known)}.'
            f'{meant(kind, known)} If it is yours, import its module by '
            'custom_imports.')
    takes = [name for name in options_of(cls) if name not in given]
    for name in cfg:
        if name not in takes and name not in NOT_OPTIONS:
            raise CompressionError(
                f'The {registry.name} {kind!r} got an unexpected keyword argument '
                f'{name!r}; it takes {", ".join(takes)}.{meant(name, takes)}')
    return cls


def options_of(kind: Callable) -> list[str]:
    """Names of the arguments of a function or class.

    Where a class passes on ``**kwargs``, those of the classes that it derives from are
    among them.
    """
    names: dict[str, None] = {}
    for part in kind.__mro__ if isinstance(kind, type) else [kind]:
        if isinstance(kind, type) and '__init__' not in vars(part):
            continue
        found = inspect.signature(part).parameters.values()
        names |= {p.name: None for p in found if p.kind in (
            p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind == p.VAR_KEYWORD for p in found):
            break
    return list(names)


def check_options(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse names that nobody would read.

    Args:
        what (str): What has the options, for the message.
        given (Iterable[str]): Their names; mmengine adds some such as ``_scope_``.
        known (Iterable[str]): The names that it takes.

    Raises:
        CompressionError: Names the unknown one, the closest known one and all of them.
    """
    known = list(known)
    for name in given:
        if name not in known and not name.startswith('_'):
            raise CompressionError(
                f'{what} has no option {name!r}; it takes {", ".join(known)}.'
                f'{meant(name, known)}')


def meant(name: Any, known: Iterable[str]) -> str:
    """A question that offers the known name closest to another one, if any is close."""
    close = get_close_matches(name, known, 1) if isinstance(name, str) else []
    return f' Did you mean {close[0]!r}?' if close else ''
