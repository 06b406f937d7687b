"""The configs of SWP can be read, and their parts exist."""

from pathlib import Path

import pytest
import yaml
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmcompress.mutators import JointMutator
from mmcompress.registry import EVALUATORS, LOOPS, PRICES, SEARCHERS

FOLDER = Path(__file__).resolve().parents[1] / 'configs' / 'swp'
NAMES = sorted(p.name for p in FOLDER.glob('*.py'))
SUPERNETS = [name for name in NAMES if name.endswith('_supernet.py')]
SEARCHES = sorted(set(NAMES) - set(SUPERNETS))


@pytest.mark.parametrize('name', SEARCHES)
def test_search(name):
    cfg = Config.fromfile(FOLDER / name)
    searcher = dict(cfg.search_cfg.searcher)
    kind = SEARCHERS.get(searcher.pop('type')).__name__
    if 'stages' in name:
        assert kind == 'TwoStage' and PRICES.get(cfg.search_cfg.prices.type)
    else:
        assert kind == 'Islands'
        # One budget after the other, each for 20 generations.
        generation = searcher['islands'] * searcher['population']
        budgets = len(cfg.search_cfg.targets.macs)
        assert searcher['evaluations'] == 20 * generation * budgets
    assert EVALUATORS.get(cfg.search_cfg.evaluator.type)
    mutator = JointMutator.from_config(cfg.compression).channel
    assert mutator.importance == 'index' and mutator.step
    # Its weights are the supernet's last ones.
    trained = Config.fromfile(FOLDER / f'{Path(cfg.load_from).parts[1]}.py')
    assert cfg.load_from.endswith(f'/epoch_{trained.train_cfg.max_epochs}.pth')


@pytest.mark.parametrize('name', SUPERNETS)
def test_supernet(name):
    cfg = Config.fromfile(FOLDER / name)
    init_default_scope(cfg.default_scope)
    assert LOOPS.get(cfg.train_cfg.type).__name__ == 'SupernetTrainLoop'
    assert 'by_epoch' not in cfg.train_cfg
    search = Config.fromfile(FOLDER / name.replace('_supernet', ''))
    assert cfg.compression == search.compression
    # The dense recipe trains what the search finds.
    assert 'Supernet' not in search.train_cfg.get('type', '')
    assert cfg.model == search.model and cfg.train_dataloader == search.train_dataloader


@pytest.mark.parametrize('name', [n for n in NAMES if 'bccd' in n])
def test_blood_cells(name):
    cfg = Config.fromfile(FOLDER / name)
    for part, split in (('train', 'train'), ('val', 'val'), ('test', 'test')):
        dataset = cfg[f'{part}_dataloader'].dataset
        assert dataset.ann_file == f'annotations/{split}.json'
        assert dataset.type == 'CocoDataset' and len(dataset.metainfo.classes) == 3
    assert cfg.test_evaluator.ann_file.endswith('bccd/annotations/test.json')
    assert 'batch_sampler' not in cfg.train_dataloader
    assert cfg.model.bbox_head.num_classes == 3


def test_metafile_lists_every_config():
    listed = yaml.safe_load((FOLDER / 'metafile.yml').read_text())['Models']
    # Behind them come published policies: tests/test_published_policies.py.
    assert [m['Config'] for m in listed if 'Results' not in m] == [
        f'configs/swp/{name}' for name in NAMES]
