"""A LeGR search of a real, small network: kill, resume, derive."""

import numpy as np
import pytest

from mmcompress.errors import StudyError, TargetError
from mmcompress.openmmlab.cli import parse_target_options
from mmcompress.policy.files import PolicyFile
from mmcompress.searchers import Ranking
from mmcompress.study import Study

TARGETS = (0.7, 0.5, 0.3)
SEARCH = dict(
    searcher=dict(type='LeGR', evaluations=7, population=4, tournament=2),
    targets=dict(macs=list(TARGETS)))


@pytest.fixture(scope='module')
def make(make_loop):
    return lambda work_dir, **changes: make_loop(work_dir, **{**SEARCH, **changes})


def evaluations(loop):
    return [(e.number, e.policy, e.score) for e in loop.study.history()]


@pytest.fixture(scope='module')
def searched(make, tmp_path_factory):
    loop = make(tmp_path_factory.mktemp('legr') / 'whole')
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


def test_a_killed_search_continues(make, searched, tmp_path):
    killed = make(tmp_path / 'killed')
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
        patch.setattr('mmcompress.study.study.is_alive', lambda *_: False)
        resumed = make(tmp_path / 'killed')
        resumed.run()
    assert evaluations(resumed) == evaluations(searched)
    assert (resumed.work_dir / 'ranking.json').read_text() == \
        (searched.work_dir / 'ranking.json').read_text()


def test_later_targets_without_another_search(make, searched):
    before = evaluations(searched)
    loop = make(searched.work_dir)
    loop.answer(parse_target_options(['macs=0.4', 'macs=0.6', 'params=0.45']))
    # Three policies that are not among those of the search.
    assert evaluations(loop)[:9] == before and len(evaluations(loop)) == 12
    names = ['macs_0.7', 'macs_0.6', 'macs_0.5', 'macs_0.4', 'macs_0.3']
    rows = loop.space.encode(
        PolicyFile.load(loop.work_dir / f'policies/{n}.json').policy for n in names)
    assert (np.diff(rows, axis=0) <= 0).all()
    assert (loop.work_dir / 'policies/params_0.45.json').is_file()
    # Asking again evaluates nothing, and neither does running the search again.
    loop.answer({'macs': [0.4]})
    make(searched.work_dir).run()
    assert len(evaluations(loop)) == 12


def test_a_ranking_file_serves_another_work_dir(make, searched, tmp_path):
    path = str(searched.work_dir / 'ranking.json')
    loop = make(
        tmp_path / 'other', searcher=dict(type='LeGR', ranking=path),
        targets=dict(macs=[0.5]))
    loop.run()
    policy = 'policies/macs_0.5.json'
    assert PolicyFile.load(loop.work_dir / policy).policy == \
        PolicyFile.load(searched.work_dir / policy).policy


def test_other_searchers_answer_from_their_history(make, tmp_path):
    loop = make(tmp_path / 'random', searcher=dict(type='Random', evaluations=3))
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
