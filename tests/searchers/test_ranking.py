"""Ranking files."""

import json

import pytest

from mmcompress.errors import PolicyError
from mmcompress.searchers import Ranking

RANKING = Ranking(
    'abc', 'l2', 'sum', {'stem': (1.5, -0.25), 'head': (0.1, 3.0)},
    {'stem': 2, 'head': 4}, {'score': 0.75})


def test_round_trip(tmp_path):
    RANKING.save(tmp_path / 'sub' / 'ranking.json')
    loaded = Ranking.load(tmp_path / 'sub' / 'ranking.json')
    assert loaded == RANKING
    assert loaded.alpha.tolist() == [1.5, 0.1] and loaded.kappa.tolist() == [-0.25, 3.0]
    assert [p.name for p in (tmp_path / 'sub').iterdir()] == ['ranking.json']


@pytest.mark.parametrize(('change', 'message'), [
    (dict(format='mmcompress.policy'), 'not a ranking file'),
    (dict(version=2), 'version 2'),
    (dict(factors=None), 'damaged'),
    (dict(factors={'stem': [1.0]}), 'damaged'),
    (dict(factors={'stem': [-1.0, 0.0]}), 'alpha must be positive'),
    (dict(factors={'stem': [1.0, float('nan')]}), 'both finite'),
    (dict(floors={'stem': 'two'}), 'damaged'),
])
def test_damaged_files(tmp_path, change, message):
    path = tmp_path / 'ranking.json'
    path.write_text(json.dumps({**RANKING.to_dict(), **change}))
    with pytest.raises(PolicyError, match=message):
        Ranking.load(path)


def test_no_file_and_no_json(tmp_path):
    with pytest.raises(PolicyError, match='LeGR searches write theirs'):
        Ranking.load(tmp_path / 'ranking.json')
    (tmp_path / 'ranking.json').write_text('{')
    with pytest.raises(PolicyError, match='cannot be read as JSON'):
        Ranking.load(tmp_path / 'ranking.json')


@pytest.mark.parametrize(('arguments', 'message'), [
    (('xyz', 'l2', ('stem', 'head')), 'another model'),
    (('abc', 'taylor', ('stem', 'head')), "importance to 'l2'"),
    (('abc', 'l2', ('stem', 'head', 'fc')), '2 instead of 3'),
])
def test_ranking_of_something_else(arguments, message):
    RANKING.check('abc', 'l2', ('stem', 'head'))
    with pytest.raises(PolicyError, match=message):
        RANKING.check(*arguments)
