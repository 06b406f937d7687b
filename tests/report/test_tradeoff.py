import math

import pytest

from mmcompress.costs import Target
from mmcompress.errors import DataError
from mmcompress.report import (
    COLUMNS,
    best_within,
    make_panels,
    make_tradeoff,
    print_table,
    read_csv,
    table_markdown,
    table_text,
    tradeoff_table,
    write_csv,
)
from mmcompress.report.panels import front_of

TARGET = Target('macs', 0.75, 750.0)


def test_columns_are_those_of_the_issue():
    assert ','.join(COLUMNS) == (
        'target,policy,macs,macs_ratio,params,bops,size_bytes,latency_ms,score,'
        'dense_score')


def test_best_is_highest_then_cheapest_then_first(evaluated):
    assert best_within([evaluated(0, 0.3, 700), evaluated(1, 0.9, 751)],
                       TARGET).number == 0
    assert best_within([evaluated(0, 0.3, 700), evaluated(1, 0.3, 600)],
                       TARGET).number == 1
    assert best_within([evaluated(5, 0.3, 600), evaluated(1, 0.3, 600)],
                       TARGET).number == 1
    assert best_within([evaluated(0, 0.3, 800)], TARGET) is None


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_never_win(evaluated, bad):
    assert best_within([evaluated(0, bad, 100), evaluated(1, 0.1, 200)],
                       TARGET).number == 1
    tradeoff = make_tradeoff([evaluated(0, bad, 100)], [TARGET], {'macs': 1000.0},
                             0.5, 'score', {})
    assert (tradeoff.points, tradeoff.failures, tradeoff.evaluations) == ((), 1, 1)


def test_policy_without_the_cost_does_not_meet_a_target(evaluated):
    target = Target('latency_ms', 5, 5.0)
    assert best_within([evaluated(0, 0.3, 700)], target) is None
    won = best_within([evaluated(0, 0.3, 700, latency_ms=4.0)], target)
    assert won.number == 0


def test_rows(outcome):
    dense, three_quarters, half, tenth = outcome.tradeoff.rows
    assert (dense.target, dense.policy, dense.macs_ratio) == ('dense', None, 1.0)
    assert dense.score == dense.dense_score == 0.35
    assert three_quarters.policy == 'macs_0.75.json'
    assert (three_quarters.score, three_quarters.macs_ratio) == (0.31, 0.7)
    assert three_quarters.latency_ms is None
    assert half.score == 0.20
    assert (tenth.target, tenth.policy, tenth.macs, tenth.score) == (
        'macs_0.1', None, None, None)
    assert outcome.tradeoff.best == (1, 0, None)
    assert (outcome.tradeoff.evaluations, outcome.tradeoff.failures) == (5, 1)


def test_csv_keeps_every_digit_and_leaves_unknown_cells_empty(outcome, tmp_path):
    path = write_csv(outcome.tradeoff, tmp_path / 'new' / 'tradeoff.csv')
    assert read_csv(path) == outcome.tradeoff.rows
    lines = path.read_text().splitlines()
    assert lines[0] == ','.join(COLUMNS)
    assert lines[1] == 'dense,,1000,1,400,1024000,1600,,0.35,0.35'
    assert lines[4] == 'macs_0.1,,,,,,,,,0.35'
    assert [p.name for p in path.parent.iterdir()] == ['tradeoff.csv']


def test_full_precision(evaluated, tmp_path):
    score = 0.1 + 0.2
    tradeoff = make_tradeoff([evaluated(0, score, 700)], [TARGET], {'macs': 1000.0},
                             None, 'score', {TARGET.name: 'a,"b".json'})
    row = read_csv(write_csv(tradeoff, tmp_path / 't.csv'))[1]
    assert (row.score, row.policy, row.dense_score) == (score, 'a,"b".json', None)


def test_other_csv_is_refused(tmp_path):
    path = tmp_path / 'other.csv'
    path.write_text('a,b\n1,2\n')
    with pytest.raises(DataError, match='not a trade-off table'):
        read_csv(path)


def test_table_shows_what_is_known(outcome, capsys):
    table = tradeoff_table(outcome.tradeoff)
    # No latency was measured, and BOPs say nothing that MACs do not.
    assert table.header == (
        'target', 'policy', 'MACs', 'of dense', 'params', 'size', 'score', 'vs dense')
    assert table.rows[1] == ('macs_0.75', 'macs_0.75.json', '700', '70.0 %', '280',
                             '1.12 kB', '0.3100', '-0.0400')
    assert table.rows[3] == ('macs_0.1', *'-' * 7)
    assert table.title == 'Trade-off by coco/bbox_mAP, Random, 5 evaluations, 1 failed'
    assert 'macs_0.5   macs_0.5.json' in table_text(outcome.tradeoff)
    assert table_markdown(outcome.tradeoff).splitlines()[1].startswith(
        '| --- | --- | ---: |')
    print_table(outcome.tradeoff)
    assert '0.3100' in capsys.readouterr().out


def test_front_is_what_no_other_point_beats():
    assert front_of([(3, 5), (1, 1), (2, 1), (1, 0), (3, 4), (4, 5)]) == (
        (1, 1), (3, 5))
    assert front_of([]) == ()


def test_panel_is_in_shares_of_dense(outcome):
    (panel,) = make_panels(outcome.tradeoff)
    assert panel.relative and panel.dense == (1.0, 0.35)
    assert panel.xs == (0.48, 0.7, 0.9, 0.72)
    assert panel.front == ((0.48, 0.2), (0.7, 0.31), (0.9, 1 / 3))
    assert [(b.label, b.limit, b.number) for b in panel.budgets] == [
        ('≤ 75 %', 0.75, 1), ('≤ 50 %', 0.5, 0), ('≤ 10 %', 0.1, None)]


def test_panel_of_a_cost_the_dense_model_lacks(evaluated):
    tradeoff = make_tradeoff(
        [evaluated(0, 0.3, 700, latency_ms=4.0), evaluated(1, 0.2, 600)],
        [Target('latency_ms', 5, 5.0)], {'macs': 1000.0}, 0.4, 'score', {})
    (panel,) = make_panels(tradeoff)
    assert (panel.relative, panel.dense, panel.numbers) == (False, None, (0,))
    assert panel.budgets[0].label == '≤ 5.00 ms'


def test_tested_networks_have_a_column(evaluated, tmp_path):
    tests = {'dense': {'bbox_mAP_50': 0.5, 'bbox_mAP': 0.4},
             'macs_0.75': {'bbox_mAP_50': 0.45, 'bbox_mAP': 0.375}}
    targets = (TARGET, Target('macs', 0.5, 500.0))

    def tradeoff(score_name, tests):
        history = [evaluated(0, -0.1, 700), evaluated(1, -0.2, 400)]
        return make_tradeoff(history, targets, {'macs': 1000.0}, 0.0, score_name, {},
                             tests=tests)

    # A metric of the test is the one to show, for a distance it is the first.
    assert [r.test for r in tradeoff('bbox_mAP', tests).rows] == [0.4, 0.375, None]
    found = tradeoff('detections', tests)
    assert (found.test_name, found.row('dense').test) == ('bbox_mAP_50', 0.5)
    table = tradeoff_table(found)
    assert table.header[-1] == 'test bbox_mAP_50'
    assert [row[-1] for row in table.rows] == ['0.5000', '0.4500', '-']
    path = write_csv(found, tmp_path / 'tradeoff.csv')
    assert path.read_text().startswith(','.join([*COLUMNS, 'test']))
    assert read_csv(path) == found.rows
    untested = write_csv(tradeoff('detections', {}), tmp_path / 'untested.csv')
    assert untested.read_text().splitlines()[0] == ','.join(COLUMNS)
