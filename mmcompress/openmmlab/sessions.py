"""Preparing the model of a config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from ..errors import CompressionError
from ..registry import EVALUATORS, build
from ..session import Session, find_units, open_session
from .config_files import read_config
from .input_shape import input_shape_of
from .settings import check_settings


def session_of(
    model: nn.Module, cfg: Config, evaluator: Mapping[str, Any],
    log: Callable[[str], Any] | None = None,
) -> Session:
    """Prepare a model with the datasets and the compression of its config.

    Args:
        model (nn.Module): The dense model with its weights.
        cfg (Config): Says ``compression`` and the datasets.
        evaluator (Mapping): Config of the evaluator.
        log (Callable | None): Receives a line on the units that were found.
    """
    built = build(EVALUATORS, {'type': 'PolicyEvaluator', **evaluator})
    graph = find_units(model, input_shape_of(cfg))
    if log:
        log(graph.describe())
    built.prepare(model, cfg)
    work_dir = cfg.get('work_dir')
    return open_session(
        model, graph, built, cfg.get('compression') or {},
        folder=Path(work_dir, 'statistic') if work_dir else None)


def session_of_file(config: str | Path | Config, **overrides: Any) -> Session:
    """See :meth:`mmcompress.session.Session.from_config`.

    Raises:
        CompressionError: The config says no evaluator, or the checkpoint does not fit.
    """
    from .cli import build_model

    cfg = config if isinstance(config, Config) else read_config(config)
    cfg.merge_from_dict({k.replace('__', '.'): v for k, v in overrides.items()})
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    check_settings(cfg)
    evaluator = (cfg.get('search_cfg') or {}).get('evaluator')
    if not evaluator:
        raise CompressionError(
            'The config has no search_cfg.evaluator; see configs/README.md for how to '
            'write one on top of any config.')
    return session_of(build_model(cfg, cfg.get('load_from')), cfg, evaluator)
