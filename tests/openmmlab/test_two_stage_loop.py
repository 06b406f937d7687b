"""A two-stage search of a real, small network."""

import pytest

from mmcompress.errors import StudyError
from mmcompress.policy.files import PolicyFile
from mmcompress.prices.gradient import GradientPrices

SEARCH = dict(
    searcher=dict(type='TwoStage', evaluations=6),
    prices=dict(type='GradientPrices', images=20, batch_size=5),
    targets=dict(macs=[0.7, 0.4]))


@pytest.fixture(scope='module')
def make(make_loop):
    return lambda work_dir, **changes: make_loop(work_dir, **{**SEARCH, **changes})


@pytest.fixture(scope='module')
def searched(make, tmp_path_factory):
    loop = make(tmp_path_factory.mktemp('two_stage') / 'whole')
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


def test_prices_are_computed_once_and_serve_further_targets(make, searched):
    def forbidden(*_):
        raise AssertionError('computed prices again')

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GradientPrices, '_terms', forbidden)
        loop = make(searched.work_dir)
        loop.answer(dict(macs=[0.5, 0.6], params=[0.5]))
    for name in ('macs_0.5', 'macs_0.6', 'params_0.5'):
        assert (searched.work_dir / f'policies/{name}.json').is_file()
    assert 6 < len(loop.study.history()) <= 9


def test_other_prices_are_another_search(make, searched):
    with pytest.raises(StudyError, match=r'prices\.images'):
        make(searched.work_dir,
             prices=dict(type='GradientPrices', images=21, batch_size=5)).run()


def test_measured_prices(make, tmp_path):
    loop = make(
        tmp_path / 'measured', searcher=dict(type='TwoStage', evaluations=2),
        prices=dict(type='MeasuredPrices', images=20))
    loop.run()
    assert len(loop.study.history()) == 2
