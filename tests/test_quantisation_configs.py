"""The configs of quantisation can be read, and their parts exist."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmcompress.mutators import JointMutator
from mmcompress.registry import EVALUATORS, SEARCHERS

FOLDER = Path(__file__).resolve().parents[1] / 'configs' / 'quantisation'


@pytest.mark.parametrize('path', sorted(FOLDER.glob('*.py')), ids=lambda p: p.stem)
def test_config(path):
    cfg = Config.fromfile(path)
    mutator = JointMutator.from_config(cfg.compression)
    assert mutator.quantiser is not None
    assert (mutator.channel is not None) == path.stem.startswith('joint')
    kind = SEARCHERS.get(cfg.search_cfg.searcher.type)
    assert (kind.__name__ == 'Uniform') == path.stem.startswith('ptq')
    evaluator = dict(cfg.search_cfg.evaluator)
    EVALUATORS.get(evaluator.pop('type'))(**evaluator)
    assert all(0 < value < 1 for value in cfg.search_cfg.targets.bops)
    assert cfg.load_from and 'custom_imports' in cfg


def test_every_config_is_in_the_metafile():
    text = (FOLDER / 'metafile.yml').read_text()
    assert all(f'Config: configs/quantisation/{p.name}' in text
               for p in FOLDER.glob('*.py'))
