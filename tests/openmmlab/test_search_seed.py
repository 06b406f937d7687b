"""Searches of a real, small network whose config names no seed."""

import pytest
from mmengine.config import Config

from mmcompress.errors import StudyError
from mmcompress.openmmlab.search_seed import with_seed

SEARCH = dict(
    searcher=dict(type='Evolution', evaluations=6),
    targets=dict(macs=[0.6]))


def evaluations(loop):
    return [(e.number, e.policy, e.score) for e in loop.study.history()]


@pytest.fixture(scope='module')
def make(make_loop):
    return lambda work_dir, seed=None, **changes: make_loop(
        work_dir, randomness=dict(seed=seed), **{**SEARCH, **changes})


@pytest.fixture(scope='module')
def searched(make, tmp_path_factory):
    loop = make(tmp_path_factory.mktemp('seed') / 'unseeded')
    loop.run()
    return loop


def test_run_again_finds_its_study(make, searched):
    # Its weights are random, too: they must come from the same seed.
    before = evaluations(searched)
    again = make(searched.work_dir)
    again.run()
    assert evaluations(again) == before and len(before) == 6
    again.answer({'macs': [0.7]})
    assert (again.work_dir / 'policies/macs_0.7.json').is_file()


def test_equals_a_search_whose_config_names_the_seed(make, searched, tmp_path):
    seeded = make(tmp_path / 'seeded', seed=searched.runner.seed)
    seeded.run()
    assert evaluations(seeded) == evaluations(searched)
    policy = 'policies/macs_0.6.json'
    assert (seeded.work_dir / policy).read_text() == \
        (searched.work_dir / policy).read_text()


def test_another_seed_is_refused(make, searched):
    seed = searched.runner.seed
    with pytest.raises(StudyError, match=(
            rf'differs in: searcher\.seed \(study: {seed}, now: {seed + 1}\)')):
        make(searched.work_dir, seed=seed + 1).run()


def test_a_study_of_a_config_with_a_seed_goes_on_without(make, tmp_path):
    seeded = make(tmp_path, seed=7)
    seeded.run()
    unseeded = make(tmp_path)
    assert unseeded.runner.seed == 7
    unseeded.run()
    assert evaluations(unseeded) == evaluations(seeded)


def test_the_log_says_which(make, searched, tmp_path):
    def seed_lines(work_dir):
        text = ''.join(p.read_text() for p in work_dir.glob('*/*.log'))
        return {line.partition(' - INFO - ')[2] for line in text.splitlines()
                if 'Seed ' in line}

    assert seed_lines(searched.work_dir) >= {f'Seed {searched.runner.seed}, '
                                             'of the study.'}
    make(tmp_path, seed=3)
    assert seed_lines(tmp_path) == {'Seed 3, of the config.'}


@pytest.mark.parametrize(('given', 'seed'), [
    (dict(randomness=dict(seed=0), search_cfg=dict(seed=1)), 0),
    (dict(search_cfg=dict(seed=0)), 0),
    (dict(search_cfg=dict(seed=1, searcher=dict(seed=2))), 2)])
def test_a_seed_of_the_config_asks_no_study(given, seed, tmp_path):
    cfg, origin = with_seed(Config(dict(given, work_dir=str(tmp_path / 'mine'))))
    assert (cfg.randomness.seed, origin) == (seed, 'config')
    assert not (tmp_path / 'mine').exists()


def test_the_study_is_where_the_config_says(tmp_path):
    def seed(**search_cfg):
        cfg = Config(dict(search_cfg=search_cfg, work_dir=str(tmp_path),
                          randomness=dict(seed=None, deterministic=True)))
        found, origin = with_seed(cfg)
        assert origin == 'study' and cfg.randomness.seed is None
        assert found.randomness.deterministic
        return found.randomness.seed

    default, journal = seed(), seed(storage='journal:///here.log')
    assert (tmp_path / 'search.db').is_file() and (tmp_path / 'here.log').is_file()
    assert len({default, journal, seed(study='other')}) == 3
    assert seed(storage='sqlite:///search.db', study='search') == default
