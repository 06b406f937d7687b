"""A two-stage search of a real, small network."""

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, init_default_scope

from mmcompress.engine.cli import search_runner
from mmcompress.engine.search_loop import PolicySearchLoop
from mmcompress.errors import StudyError
from mmcompress.evaluation import GradientPrices
from mmcompress.policy.files import PolicyFile


@DATASETS.register_module()
class Striped(BaseDataset):
    """Eighty random images of two classes."""

    METAINFO = dict(classes=('a', 'b'))

    def load_data_list(self) -> list[dict]:
        """Images as arrays, so that nothing is read."""
        rng = np.random.default_rng(0)
        return [dict(img=rng.integers(0, 100 + 100 * (i % 2), (8, 8, 3), np.uint8),
                     img_shape=(8, 8), gt_label=i % 2) for i in range(80)]


def make_loop(work_dir, **changes):
    init_default_scope('mmpretrain')
    dataset = dict(type='Striped', pipeline=[dict(type='PackInputs')])
    loader = dict(batch_size=10, num_workers=0, dataset=dataset)
    search = dict(
        searcher=dict(type='TwoStage', evaluations=6),
        evaluator=dict(metric='accuracy/top1', images=40, calibration_images=10),
        prices=dict(type='GradientPrices', images=20, batch_size=5),
        targets=dict(macs=[0.7, 0.4]), save_checkpoints=False)
    search.update(changes)
    cfg = Config(dict(
        model=dict(
            type='ImageClassifier',
            backbone=dict(type='mmcompress.CifarResNet', depth=8, widths=(8, 8, 8)),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=2, in_channels=8)),
        data_preprocessor=dict(num_classes=2, mean=[0.0] * 3, std=[255.0] * 3),
        train_dataloader=loader, test_dataloader=loader,
        val_evaluator=dict(type='Accuracy', topk=(1,)),
        compression=dict(input_shape=(3, 8, 8), channel=dict(divisor=1)),
        randomness=dict(seed=0), work_dir=str(work_dir), search_cfg=search,
        default_scope='mmpretrain', experiment_name=work_dir.name))
    return PolicySearchLoop(search_runner(cfg), **search)


@pytest.fixture(scope='module')
def searched(tmp_path_factory):
    loop = make_loop(tmp_path_factory.mktemp('two_stage') / 'whole')
    loop.run()
    return loop


def test_writes_the_best_policy_of_every_target(searched):
    history = searched.study.history()
    assert [e.number for e in history] == list(range(6))
    for target in searched.targets:
        file = PolicyFile.load(searched.work_dir / f'policies/{target.name}.json')
        assert target.met_by(file.facts['costs'])
        assert file.facts['score'] == max(
            e.score for e in history if target.met_by(e.costs))


def test_prices_are_computed_once_and_serve_further_targets(searched):
    def forbidden(*_):
        raise AssertionError('computed prices again')

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GradientPrices, '_terms', forbidden)
        loop = make_loop(searched.work_dir)
        loop.answer(dict(macs=[0.5, 0.6], params=[0.5]))
    for name in ('macs_0.5', 'macs_0.6', 'params_0.5'):
        assert (searched.work_dir / f'policies/{name}.json').is_file()
    assert 6 < len(loop.study.history()) <= 9


def test_other_prices_are_another_search(searched):
    with pytest.raises(StudyError, match=r'prices\.images'):
        make_loop(searched.work_dir,
                  prices=dict(type='GradientPrices', images=21, batch_size=5)).run()


def test_measured_prices(tmp_path):
    loop = make_loop(
        tmp_path / 'measured', searcher=dict(type='TwoStage', evaluations=2),
        prices=dict(type='MeasuredPrices', images=20))
    loop.run()
    assert len(loop.study.history()) == 2
