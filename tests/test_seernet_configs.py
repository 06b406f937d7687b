"""The configs of SeerNet can be read, and their parts exist."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmcompress.evaluation import Finetuning, PolicyEvaluator
from mmcompress.registry import EVALUATORS, PREDICTORS, SEARCHERS
from mmcompress.searchers import SeerNet
from mmcompress.testing import toy_costs, toy_space

FOLDER = Path(__file__).resolve().parents[1] / 'configs' / 'seernet'
CONFIGS = sorted(p.name for p in FOLDER.glob('*.py'))


@pytest.mark.parametrize('name', CONFIGS)
def test_search(name):
    cfg = Config.fromfile(FOLDER / name)
    searcher, evaluator = dict(cfg.search_cfg.searcher), dict(cfg.search_cfg.evaluator)
    assert SEARCHERS.get(searcher.pop('type')) is SeerNet
    assert PREDICTORS.get(searcher['predictor']['type']).__name__ == 'GPPredictor'
    costs = toy_costs(toy_space((4, 6, 8), (4, 6, 8)))
    built = SeerNet(costs.space, costs, (), **searcher)
    assert built.initial < built.labels < built.evaluations
    assert issubclass(EVALUATORS.get(evaluator.pop('type')), PolicyEvaluator)
    Finetuning.read(evaluator.get('finetune'))
    # Between all layers at 4 bits with a quarter of the channels, and at 8.
    assert all(0.004 < v < 0.0625 for v in cfg.search_cfg.targets.bops)
    assert {'channel', 'quant'} <= set(cfg.compression)
    assert cfg.load_from and 'custom_imports' in cfg


def test_all_networks_have_one():
    assert len(CONFIGS) == 8
