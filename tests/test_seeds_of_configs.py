"""No config of the repository needs a seed to be searched."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmcompress.openmmlab.search_seed import with_seed

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
NAMES = sorted(str(p.relative_to(CONFIGS)) for p in CONFIGS.glob('[!_]*/*.py'))


@pytest.mark.parametrize('name', NAMES)
def test_every_run_of_a_search_has_one_seed(name: str, tmp_path: Path) -> None:
    cfg = Config.fromfile(CONFIGS / name)
    if cfg.get('search_cfg') is None:
        pytest.skip('nothing to search')
    cfg.work_dir = str(tmp_path)
    (first, origin), (second, _) = with_seed(cfg), with_seed(cfg)
    assert first.randomness.seed == second.randomness.seed is not None
    named = (cfg.get('randomness') or {}).get('seed') is not None
    assert origin == ('config' if named else 'study')


def test_some_have_none() -> None:
    # mmpretrain's default; the test above would say little without them.
    cfg = Config.fromfile(CONFIGS / 'evolution/evolution_resnet18_in1k.py')
    assert cfg.randomness.seed is None
