"""The configs of the two-stage framework can be read, and their parts exist."""

from pathlib import Path

import pytest
import yaml
from mmengine.config import Config

from mmcompress.registry import EVALUATORS, MUTATORS, PRICES, SEARCHERS

FOLDER = Path(__file__).resolve().parents[1] / 'configs' / 'two_stage'
NAMES = sorted(p.name for p in FOLDER.glob('*.py'))


@pytest.mark.parametrize('name', NAMES)
def test_search(name):
    cfg = Config.fromfile(FOLDER / name)
    searcher = dict(cfg.search_cfg.searcher)
    assert SEARCHERS.get(searcher.pop('type')).__name__ == 'TwoStage'
    assert set(searcher) == {'evaluations'}
    assert EVALUATORS.get(cfg.search_cfg.evaluator.type)
    prices = dict(cfg.search_cfg.prices)
    source = PRICES.get(prices.pop('type'))(**prices)
    assert source.images >= 48
    parts = {key: cfg.compression[key] for key in ('channel', 'quant')
             if key in cfg.compression}
    assert set(parts) == ({'channel'} if '_prune_' in name else {'quant'}
                          if '_quant_' in name else {'channel', 'quant'})
    for part in parts.values():
        MUTATORS.build(dict(part, _scope_='mmcompress'))
    for values in cfg.search_cfg.targets.values():
        assert 0 < min(values) <= max(values) < 1
    assert cfg.load_from and 'custom_imports' in cfg


def test_metafile_lists_every_config():
    listed = yaml.safe_load((FOLDER / 'metafile.yml').read_text())['Models']
    # Behind them come published policies: tests/test_published_policies.py.
    assert [m['Config'] for m in listed if 'Results' not in m] == [
        f'configs/two_stage/{name}' for name in NAMES]
