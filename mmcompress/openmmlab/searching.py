"""Searching the model of a config."""

from __future__ import annotations

from mmengine.config import Config

from ..errors import StudyError
from ..registry import LOOPS, build
from ..report import Outcome
from .cli import load_weights, search_runner
from .loops import PolicySearchLoop


def search_loop(cfg: Config) -> PolicySearchLoop:
    """The loop that searches a config's model, its weights loaded.

    Args:
        cfg (Config): Has a ``search_cfg``; this process works alone or beside others
            that do the same, so its launcher is set to none.

    Raises:
        CompressionError: The weights or an option do not fit.
    """
    # Every process is a worker of its own; nothing is synchronised but the study.
    cfg.launcher = 'none'
    runner = search_runner(cfg)
    if cfg.get('load_from'):
        load_weights(runner.model, cfg.load_from)
    else:
        runner.logger.warning(
            'The config has no load_from: searching on random weights.')
    loop_cfg = {k: v for k, v in cfg.search_cfg.items() if k != 'custom_hooks'}
    loop_cfg.setdefault('type', 'PolicySearchLoop')
    return build(LOOPS, loop_cfg, runner=runner)


def check_complete(outcome: Outcome) -> None:
    """Raise :class:`StudyError` if a search found no policy for a target."""
    if outcome.missed:
        raise StudyError(
            f'The search found no policy for {", ".join(outcome.missed)} in '
            f'{outcome.tradeoff.evaluations} evaluations, of which '
            f'{outcome.tradeoff.failures} failed (the log says why). Raise '
            'search_cfg.searcher.evaluations and run the same command again.')
