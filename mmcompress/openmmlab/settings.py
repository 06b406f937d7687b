"""Whether the sections that mmcompress adds to a config say what somebody reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from mmengine.config import Config

from ..errors import CompressionError
from ..evaluation.finetune import Finetuning
from ..latency.measure import latency_of
from ..mutators.joint import DEFAULTS
from ..mutators.settings import OTHERS, check_compression
from ..options import check_values, options_of
from ..registry import (
    EVALUATORS,
    LOOPS,
    PREDICTORS,
    PRICES,
    SEARCHERS,
    check_call,
    check_options,
    checked,
)
from ..searchers.base import GIVEN

LIKE = 0.8
"""Similarity from which the name of a section is taken for a mistyped one."""


def check_settings(cfg: Config, **more: Callable) -> None:
    """Refuse names that nobody would read, and values that do not fit, before any work.

    What may be there follows from the signatures of what the settings are handed to.

    Args:
        cfg (Config): The config, with the options of the command line.
        more: Further sections, and the function that takes the options of each.

    Raises:
        CompressionError: A name is unknown; says which is close. Or a value is not what
            the annotation of its option says.
    """
    for name in ('compression', 'search_cfg', *more):
        section = cfg.get(name)
        if section is not None and not isinstance(section, Mapping):
            raise CompressionError(f'{name} is a dict of options, not {section!r}.')
    known: dict[str, Iterable[str]] = dict(
        compression=[*DEFAULTS, *OTHERS],
        search_cfg=_search_options(cfg.get('search_cfg') or {}))
    known |= {name: list(options_of(function)) for name, function in more.items()}
    _check_names_of_sections(cfg, known)
    check_compression(cfg.get('compression') or {})
    _check_search(cfg.get('search_cfg') or {}, known['search_cfg'])
    for name, function in more.items():
        check_call(name, cfg.get(name) or {}, function)


def _check_names_of_sections(cfg: Config, known: Mapping[str, Iterable[str]]) -> None:
    """Refuse a dict that is called nearly as a section, and holds options of it."""
    for name, value in cfg.items():
        close = get_close_matches(name, known, 1, LIKE)
        if close and name not in known and isinstance(value, Mapping) \
                and set(value) & set(known[close[0]]) - {'type'}:
            raise CompressionError(
                f'Nothing reads {name!r} of the config. Did you mean {close[0]!r}?')


def _search_options(search: Mapping[str, Any]) -> list[str]:
    own = [name for name in options_of(_loop(search)) if name != 'runner']
    return ['type', 'custom_hooks', *own]


def _loop(search: Mapping[str, Any]) -> Callable:
    return checked(LOOPS, {'type': search.get('type', 'PolicySearchLoop')})


def _check_search(search: Mapping[str, Any], known: Iterable[str]) -> None:
    check_options('search_cfg', search, known)
    check_values('search_cfg', _loop(search), search)
    if searcher := search.get('searcher'):
        kind = checked(SEARCHERS, searcher, GIVEN)
        if 'predictor' in options_of(kind):
            predictor = searcher.get('predictor') or {}
            checked(PREDICTORS, {'type': 'GPPredictor', **predictor}, ('space',))
    if evaluator := search.get('evaluator'):
        checked(EVALUATORS, {'type': 'PolicyEvaluator', **evaluator})
        check_call('search_cfg.evaluator.finetune', evaluator.get('finetune') or {},
                   Finetuning)
    if prices := search.get('prices'):
        checked(PRICES, {'type': 'GradientPrices', **prices})
    check_call('search_cfg.latency', search.get('latency') or {}, latency_of,
               ('model', 'graph', 'space'))
