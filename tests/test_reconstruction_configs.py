"""The configs of the repair can be read, and their parts exist."""

from pathlib import Path

import pytest
import yaml
from mmengine.config import Config

from mmcompress.mutators import JointMutator
from mmcompress.registry import EVALUATORS, PRICES, SEARCHERS

FOLDER = Path(__file__).resolve().parents[1] / 'configs' / 'reconstruction'
NAMES = sorted(p.name for p in FOLDER.glob('*.py'))


@pytest.mark.parametrize('name', NAMES)
def test_search(name):
    cfg = Config.fromfile(FOLDER / name)
    assert SEARCHERS.get(cfg.search_cfg.searcher.type)
    assert EVALUATORS.get(cfg.search_cfg.evaluator.type)
    assert cfg.search_cfg.evaluator.calibration_images > 0
    prices = dict(cfg.search_cfg.prices)
    assert PRICES.get(prices.pop('type'))(**prices).images >= 16
    mutator = JointMutator.from_config(cfg.compression)
    if mutator.channel:
        assert mutator.channel.importance == 'obs' and mutator.repair
    assert cfg.load_from and 'custom_imports' in cfg


def test_metafile_lists_every_config():
    listed = yaml.safe_load((FOLDER / 'metafile.yml').read_text())['Models']
    # Behind them come published policies: tests/test_published_policies.py.
    assert [m['Config'] for m in listed if 'Results' not in m] == [
        f'configs/reconstruction/{name}' for name in NAMES]
