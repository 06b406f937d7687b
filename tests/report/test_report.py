import importlib.util
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mmcompress.costs import Target
from mmcompress.errors import DataError
from mmcompress.policy import Bits, Policy
from mmcompress.report import (
    comparison_table,
    load_outcome,
    make_comparison,
    make_outcome,
    read_csv,
    render_report,
    save_outcome,
    write_all,
)
from mmcompress.report.drawing import draw, ticks
from mmcompress.report.panels import make_panel

ROOT = Path(__file__).parents[2]


def report(outcome):
    return render_report(
        outcome.tradeoff, outcome.graph, outcome.policies, outcome.facts)


class Checker(HTMLParser):
    """Collects attributes that load something, and checks that tags nest."""

    def __init__(self):
        super().__init__()
        self.loads, self.open, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [v for k, v in attrs if k in ('src', 'href', 'xlink:href')]
        if tag not in ('meta', 'line', 'circle', 'path', 'input', 'img'):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)


def test_report_is_one_small_file_that_loads_nothing(outcome):
    text = report(outcome)
    checker = Checker()
    checker.feed(text)
    assert not checker.open and not checker.loads
    assert not re.search(r'https?://|@import|url\(', text)
    assert len(text) < 60_000
    assert checker.tags.count('section') == 5


def test_report_of_a_long_search_stays_small(outcome, evaluated):
    many = [evaluated(i, i / 1000, 300 + i) for i in range(1000)]
    long = make_outcome(
        many, outcome.tradeoff.targets, outcome.tradeoff.dense, 0.35, 'mAP', {},
        outcome.graph, {})
    assert len(report(long)) < 300_000


def test_report_names_what_was_left_out(outcome):
    text = report(outcome)
    for part in ('Compression of Toy', 'neck&lt;1&gt;', 'differ by 0.3',
                 'aten::grid_sampler, 2 calls', 'aux', '5 (1 failed)', 'Random',
                 'that no policy met', 'produced by: body', 'also in: gn',
                 'keeps 8 of 8 (16 of 16 channels)'):
        assert part in text


def test_report_escapes_every_name(history, graph):
    evil = '</script><script>alert("1")</script>&\''
    evil_unit = replace(graph.units[0], name=evil)
    graph = replace(graph, units=(evil_unit,), excluded={evil: evil},
                    unsupported={evil: 1}, unvisited=(evil,))
    history = [replace(e, policy=Policy({evil: 3})) for e in history]
    target = Target('macs', 0.75, 750.0)
    outcome = make_outcome(history, [target], {'macs': 1000.0}, 0.3, evil,
                           {target.name: evil}, graph, {evil: evil, 'model': evil},
                           searcher=evil)
    text = report(outcome)
    assert evil not in text
    assert text.count('<script') == 2
    checker = Checker()
    checker.feed(text)
    assert not checker.open


def test_report_data_holds_every_point(outcome):
    found = re.search(r'id="data">(.*?)</script>', report(outcome))
    data = json.loads(found[1])
    assert data['costs'][0] == 'macs'
    assert data['points'][1][:3] == [1, 0.31, 700]
    assert len(data['points']) == 4


def test_report_of_a_search_that_found_nothing(graph, tmp_path):
    target = Target('macs', 0.5, 500.0)
    outcome = make_outcome([], [target], {'macs': 1000.0}, None, 'mAP', {}, graph, {})
    assert 'not met' in report(outcome)
    assert 'policies.png' not in write_all(outcome, tmp_path)


def test_report_shows_bits(outcome):
    policy = Policy({'stem': 2}, {'body': Bits(4, 8)})
    text = report(replace(outcome, policies={'macs_0.5': policy}))
    assert 'Bits of each layer' in text and 'W4 A8' in text


@pytest.mark.parametrize('low, high, expected', [
    (0, 1, (0, 0.2, 0.4, 0.6, 0.8, 1)), (0.31, 0.34, (0.31, 0.315, 0.32, 0.325, 0.33,
                                                      0.335, 0.34)), (2, 2, (2,))])
def test_ticks(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_outcome_round_trip(outcome, tmp_path):
    path = save_outcome(tmp_path / 'outcome.json', outcome)
    assert load_outcome(path) == outcome
    assert load_outcome(tmp_path) == outcome
    assert report(load_outcome(path)) == report(outcome)


def test_outcome_with_bits_round_trip(outcome, tmp_path):
    policy = Policy({'stem': 2}, {'body': Bits(4, 8)})
    outcome = replace(outcome, policies={'macs_0.5': policy})
    loaded = load_outcome(save_outcome(tmp_path / 'o.json', outcome))
    assert loaded.policies == {'macs_0.5': policy}


def test_costs_without_a_value_are_left_out(evaluated, graph, tmp_path):
    history = [evaluated(0, 0.3, 700, latency_ms=float('nan'))]
    outcome = make_outcome(
        history, [Target('macs', 0.75, 750.0)], {'macs': 1000.0}, float('nan'), 'mAP',
        {}, graph, {})
    assert outcome.tradeoff.dense_score is None
    assert load_outcome(save_outcome(tmp_path / 'o.json', outcome)) == outcome
    write_all(outcome, tmp_path)


@pytest.mark.parametrize('text, message', [
    (None, 'Run tools/search.py'), ('{', 'not a search outcome'),
    ('[]', 'not a search outcome'), ('{"version": 99}', 'version 99'),
    ('{"version": 1}', 'not a search outcome')])
def test_broken_outcome_is_named(tmp_path, text, message):
    path = tmp_path / 'outcome.json'
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=message):
        load_outcome(tmp_path)


def test_write_all(outcome, tmp_path):
    paths = write_all(outcome, tmp_path)
    assert set(paths) == {'outcome.json', 'tradeoff.csv', 'tradeoff.png',
                          'policies.png', 'report.html'}
    assert {p.name for p in tmp_path.iterdir()} == set(paths)
    assert read_csv(paths['tradeoff.csv']) == outcome.tradeoff.rows


def test_comparison(outcome):
    fewer = replace(outcome.tradeoff, searcher='Uniform', evaluations=3)
    comparison = make_comparison(
        {'a': outcome, 'b': replace(outcome, tradeoff=fewer)})
    table = comparison_table(comparison)
    assert table.header[4:] == ('macs_0.75', 'macs_0.5', 'macs_0.1')
    assert table.rows[1] == ('b', 'Uniform', '3', '0.3500', '0.3100', '0.2000', '-')
    assert comparison.notes == (
        'The searches spent different numbers of evaluations.',)


def test_comparison_says_what_differs(outcome):
    other = replace(outcome.tradeoff, dense={'macs': 2000.0}, dense_score=0.4)
    a = replace(outcome, facts={'images': '8 to score', 'weights': 'abc'})
    b = replace(a, tradeoff=other)
    assert make_comparison({'a': a, 'b': b}).notes == (
        'The dense scores differ, though images, weights and torch are the same.',
        'The dense macs differ: equal targets are not equal budgets.')
    b = replace(b, facts={'images': '9 to score', 'weights': 'abc'})
    assert make_comparison({'a': a, 'b': b}).notes[0] == (
        'The dense scores differ, and so do: images (8 to score; 9 to score).')
    b = replace(b, facts={'images': '8 to score'})
    assert make_comparison({'a': a, 'b': b}).notes[0] == (
        'The dense scores differ, and so do: weights (abc; not recorded).')


def with_targets(outcome, *targets):
    tradeoff = outcome.tradeoff
    return replace(outcome, tradeoff=replace(
        tradeoff, targets=targets, best=(0,) * len(targets)))


def test_searches_on_different_costs_share_an_axis(outcome):
    bops = with_targets(outcome, Target('bops', 0.5, 512_000.0))
    comparison = make_comparison({'a': outcome, 'b': bops, 'c': bops})
    panels = [s.panel for s in comparison.searches]
    assert {p.cost for p in panels} == {'bops'} and {p.relative for p in panels} == {
        True}
    assert all(len(p.xs) == 4 for p in panels)
    assert comparison.notes == (
        'The searches have budgets on different costs; all are drawn against BOPs.',)


def test_searches_without_a_shared_cost_are_not_compared(outcome):
    points = tuple(replace(p, costs={'latency_ms': 1.0})
                   for p in outcome.tradeoff.points)
    other = replace(outcome.tradeoff, points=points)
    with pytest.raises(DataError, match='a, b cannot be compared: there is no cost'):
        make_comparison({'a': outcome, 'b': replace(outcome, tradeoff=other)})


def test_the_result_and_the_next_command_come_first_and_facts_last(outcome):
    facts = dict(outcome.facts, config='my_search.py')
    text = report(replace(outcome, facts=facts))
    order = [text.index(part) for part in (
        '<h2>Trade-off', 'mmcompress train my_search.py --policy '
        'WORK_DIR/policies/macs_0.5.json', '<h2>Evaluated', 'Any budget',
        'mmcompress search my_search.py --target', '<h2>Channels kept',
        '<h2>What the search did not cover', '<h2>Facts', '<dt>searcher')]
    assert order == sorted(order)
    assert 'mmc.load(&#39;WORK_DIR&#39;, model=net)' in report(outcome)


def test_an_axis_ends_before_a_dense_model_that_is_far_away(outcome, evaluated, graph):
    # 3 to 6 % of the dense cost, as BOPs of quantised networks are.
    history = [evaluated(i, 0.3, macs) for i, macs in enumerate((30, 45, 60))]
    far = make_outcome(history, [Target('macs', 0.05, 50.0)], {'macs': 1000.0}, 0.35,
                       'mAP', {}, graph, {})
    panel = make_panel(far.tradeoff, 'macs')
    drawing = draw(panel, 3)
    assert panel.is_cut and drawing.x.high < 0.1
    assert drawing.dense.x <= drawing.x.end and '100 %' in drawing.dense.score
    near = draw(make_panel(outcome.tradeoff, 'macs'), 3)
    assert not near.is_cut and near.x.high > 1


def test_a_gallery(outcome, tmp_path):
    (tmp_path / 'gallery.json').write_text(json.dumps(dict(
        names=['dense', 'macs_0.5'], images=[['aaaa', 'bbbb']], threshold=0.3)))
    text = write_all(outcome, tmp_path)['report.html'].read_text()
    assert text.count('<img') == 2
    assert '<img alt="macs_0.5" src="data:image/jpeg;base64,bbbb">' in text
    assert 'img-src data:' in text


def test_searches_of_different_models_or_scores_are_not_compared(outcome):
    other = replace(outcome, graph=replace(outcome.graph, fingerprint='xyz'))
    with pytest.raises(DataError, match='models differ'):
        make_comparison({'a': outcome, 'b': other})
    other = replace(outcome, tradeoff=replace(outcome.tradeoff, score_name='top1'))
    with pytest.raises(DataError, match='scores differ'):
        make_comparison({'a': outcome, 'b': other})


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location('report', ROOT / 'tools/report.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tool_draws_again(tool, outcome, tmp_path, capsys):
    save_outcome(tmp_path / 'outcome.json', outcome)
    assert tool.main([str(tmp_path)]) == 0
    assert (tmp_path / 'report.html').is_file()
    assert 'macs_0.75' in capsys.readouterr().out


def test_tool_compares(tool, outcome, tmp_path, capsys):
    for name in ('random', 'uniform'):
        tradeoff = replace(outcome.tradeoff, searcher=name)
        save_outcome(tmp_path / name / 'outcome.json',
                     replace(outcome, tradeoff=tradeoff))
    dirs = [str(tmp_path / 'random'), str(tmp_path / 'uniform')]
    assert tool.main(dirs) == 0
    assert (tmp_path / 'comparison.png').is_file()
    assert '| uniform | uniform | 5 |' in (tmp_path / 'comparison.md').read_text()


def test_tool_names_what_is_missing(tool, tmp_path, capsys):
    assert tool.main([str(tmp_path)]) == 1
    assert 'No search outcome' in capsys.readouterr().err
