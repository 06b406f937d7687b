"""Which seed a search uses."""

from __future__ import annotations

import copy

from mmengine.config import Config

from ..options import check_values
from ..searchers import Searcher
from ..study.seed import study_seed
from ..study.storage import STORAGE, STUDY, placed


def with_seed(cfg: Config) -> tuple[Config, str]:
    """The config of a search with a seed that every later run has too.

    A runner without a seed draws one, so a search would differ from itself when it
    is run again or by another worker. A config that names none, neither for the
    runner nor for the searcher, gets the one of its study. The runner is built with
    it, so all goes as if the config had named it.

    Args:
        cfg (Config): Has a ``search_cfg`` and a ``work_dir``; is not changed.

    Returns:
        tuple[Config, str]: The config, with ``randomness.seed``; and what the seed is
        of, ``'config'`` or ``'study'``.

    Raises:
        StudyError: The storage of the study cannot be opened.
    """
    randomness, search = dict(cfg.get('randomness') or {}), cfg.search_cfg
    if randomness.get('seed') is not None:
        check_values('the config', Searcher, dict(seed=randomness['seed']))
        return cfg, 'config'
    seed, origin = search.get('searcher', {}).get('seed', search.get('seed')), 'config'
    if seed is None:
        storage = placed(search.get('storage', STORAGE), cfg.work_dir)
        seed, origin = study_seed(storage, search.get('study', STUDY)), 'study'
    check_values('the searcher', Searcher, dict(seed=seed))
    cfg = copy.deepcopy(cfg)
    cfg.randomness = dict(randomness, seed=seed)
    return cfg, origin
