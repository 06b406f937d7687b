"""The configs of LeGR can be read, and their checkpoints and parts exist."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmcompress.evaluation import Finetuning, PolicyEvaluator
from mmcompress.registry import EVALUATORS, SEARCHERS

FOLDER = Path(__file__).resolve().parents[1] / 'configs' / 'legr'
SEARCHES = sorted(p.name for p in FOLDER.glob('*.py') if 'finetune' not in p.name)
RECIPES = sorted(p.name for p in FOLDER.glob('*_finetune.py'))


@pytest.mark.parametrize('name', SEARCHES)
def test_search(name):
    cfg = Config.fromfile(FOLDER / name)
    searcher, evaluator = dict(cfg.search_cfg.searcher), dict(cfg.search_cfg.evaluator)
    assert SEARCHERS.get(searcher.pop('type')).__name__ == 'LeGR'
    assert searcher['tournament'] * 4 == searcher['population']
    assert issubclass(EVALUATORS.get(evaluator.pop('type')), PolicyEvaluator)
    Finetuning.read(evaluator.get('finetune'))
    assert 0 < min(cfg.search_cfg.targets.macs) < max(cfg.search_cfg.targets.macs) < 1
    assert cfg.load_from and 'custom_imports' in cfg


@pytest.mark.parametrize('name', RECIPES)
def test_fine_tuning_recipe(name):
    cfg = Config.fromfile(FOLDER / name)
    search = Config.fromfile(FOLDER / name.replace('_finetune', ''))
    # The same network and weights as in the search; a rate for fine-tuning.
    assert cfg.load_from == search.load_from and 'custom_imports' in cfg
    assert cfg.optim_wrapper.optimizer.lr <= 0.01
    # The comment on top names the policy of the search.
    assert name.replace('_finetune.py', '/policies/') in (FOLDER / name).read_text()
    assert cfg.train_cfg.max_epochs >= 12
