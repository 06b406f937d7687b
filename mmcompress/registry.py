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
from .options import check_values, options_of

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
    """The class that a user's config names, if it takes what the config gives it.

    Args:
        registry (Registry): Where its type is looked up.
        cfg (Mapping): ``type`` and the user's arguments.
        given (Iterable[str]): Names of the arguments that the caller adds.

    Raises:
        CompressionError: The type or an argument is unknown, or the value of one is
            not what its annotation says.
    """
    if not isinstance(cfg, Mapping):
        raise CompressionError(
            f'A {registry.name} is a dict such as dict(type=...), not {cfg!r}.')
    kind = cfg.get('type')
    registry.import_from_location()
    cls = registry.get(kind) if isinstance(kind, str) else kind
    if not callable(cls):
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
    check_values(f'the {registry.name} {getattr(kind, "__name__", kind)!r}', cls, {
        name: value for name, value in cfg.items() if name not in NOT_OPTIONS})
    return cls


def check_call(
    what: str, options: Any, function: Callable, given: Iterable[str] = ()
) -> None:
    """Refuse options that a function or dataclass does not take, by name or value.

    Args:
        what (str): What has the options, for the message.
        options (Mapping): The user's options.
        function (Callable): What takes them.
        given (Iterable[str]): Names of the arguments that the caller adds.

    Raises:
        CompressionError: One does not fit; says what does.
    """
    if not isinstance(options, Mapping):
        raise CompressionError(f'{what} is a dict of options, not {options!r}.')
    check_options(what, options, [n for n in options_of(function) if n not in given])
    check_values(what, function, options)


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
