"""A LeGR search of a real, small network: kill, resume, derive."""

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, init_default_scope

from mmcompress.engine.cli import parse_target_options, search_runner
from mmcompress.engine.search_loop import PolicySearchLoop
from mmcompress.errors import StudyError, TargetError
from mmcompress.policy.files import PolicyFile
from mmcompress.search import Ranking, Study

TARGETS = (0.7, 0.5, 0.3)


@DATASETS.register_module()
class Speckled(BaseDataset):
    """Sixty random images of two classes."""

    METAINFO = dict(classes=('a', 'b'))

    def load_data_list(self) -> list[dict]:
        """Images as arrays, so that nothing is read."""
        rng = np.random.default_rng(0)
        return [dict(img=rng.integers(0, 100 + 100 * (i % 2), (8, 8, 3), np.uint8),
                     img_shape=(8, 8), gt_label=i % 2) for i in range(60)]


def make_loop(work_dir, **changes):
    init_default_scope('mmpretrain')
    dataset = dict(type='Speckled', pipeline=[dict(type='PackInputs')])
    loader = dict(batch_size=10, num_workers=0, dataset=dataset)
    search = dict(
        searcher=dict(type='LeGR', evaluations=7, population=4, tournament=2),
        evaluator=dict(metric='accuracy/top1', images=40, calibration_images=10),
        targets=dict(macs=list(TARGETS)), save_checkpoints=False)
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


def evaluations(loop):
    return [(e.number, e.policy, e.score) for e in loop.study.history()]


@pytest.fixture(scope='module')
def searched(tmp_path_factory):
    loop = make_loop(tmp_path_factory.mktemp('legr') / 'whole')
    loop.run()
    return loop


def test_writes_nested_policies_of_the_best_ranking(searched):
    files = [PolicyFile.load(searched.work_dir / f'policies/macs_{t:g}.json')
             for t in TARGETS]
    rows = searched.space.encode(f.policy for f in files)
    assert (np.diff(rows, axis=0) <= 0).all()
    for target, file in zip(searched.targets, files):
        assert target.met_by(file.facts['costs'])
    scores = [s for n, _, s in evaluations(searched) if n < 7]
    assert files[2].facts['score'] == max(scores)
    # The tightest was evaluated in the search, the two others afterwards.
    assert [n for n, *_ in evaluations(searched)] == list(range(9))
    ranking = Ranking.load(searched.work_dir / 'ranking.json')
    assert ranking.fingerprint == searched.graph.fingerprint
    assert ranking.facts['score'] == max(scores)


def test_a_killed_search_continues(searched, tmp_path):
    killed = make_loop(tmp_path / 'killed')
    finish, left = Study.finish, [5]

    def dying(study, claim, evaluated):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        return finish(study, claim, evaluated)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Study, 'finish', dying)
        with pytest.raises(KeyboardInterrupt):
            killed.run()
    for beat in killed.study._beats.values():
        beat.stop()
    # The worker is this very process; to the next one it must look dead.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmcompress.search.study.is_alive', lambda *_: False)
        resumed = make_loop(tmp_path / 'killed')
        resumed.run()
    assert evaluations(resumed) == evaluations(searched)
    assert (resumed.work_dir / 'ranking.json').read_text() == \
        (searched.work_dir / 'ranking.json').read_text()


def test_later_targets_without_another_search(searched):
    before = evaluations(searched)
    loop = make_loop(searched.work_dir)
    loop.answer(parse_target_options(['macs=0.4', 'macs=0.6', 'params=0.5']))
    assert evaluations(loop)[:9] == before and len(evaluations(loop)) == 12
    names = ['macs_0.7', 'macs_0.6', 'macs_0.5', 'macs_0.4', 'macs_0.3']
    rows = loop.space.encode(
        PolicyFile.load(loop.work_dir / f'policies/{n}.json').policy for n in names)
    assert (np.diff(rows, axis=0) <= 0).all()
    assert (loop.work_dir / 'policies/params_0.5.json').is_file()
    # Asking again evaluates nothing, and neither does running the search again.
    loop.answer({'macs': [0.4]})
    make_loop(searched.work_dir).run()
    assert len(evaluations(loop)) == 12


def test_a_ranking_file_serves_another_work_dir(searched, tmp_path):
    path = str(searched.work_dir / 'ranking.json')
    loop = make_loop(
        tmp_path / 'other', searcher=dict(type='LeGR', ranking=path),
        targets=dict(macs=[0.5]))
    loop.run()
    policy = 'policies/macs_0.5.json'
    assert PolicyFile.load(loop.work_dir / policy).policy == \
        PolicyFile.load(searched.work_dir / policy).policy


def test_other_searchers_answer_from_their_history(tmp_path):
    loop = make_loop(tmp_path / 'random', searcher=dict(type='Random', evaluations=3))
    with pytest.raises(StudyError, match='same command but --target'):
        loop.answer({'macs': [0.6]})
    loop.run()
    loop.answer({'macs': [0.6]})
    file = PolicyFile.load(loop.work_dir / 'policies/macs_0.6.json')
    assert len(evaluations(loop)) == 3
    assert file.policy in [p for _, p, _ in evaluations(loop)]


def test_target_options():
    assert parse_target_options(['macs=0.4', 'macs=.5', 'params=1e5']) == \
        {'macs': [0.4, 0.5], 'params': [1e5]}
    for option in ('macs', 'macs=half'):
        with pytest.raises(TargetError, match='COST=VALUE'):
            parse_target_options([option])
