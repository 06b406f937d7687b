from dataclasses import replace

import pytest

from mmcompress.errors import PolicyError
from mmcompress.policy import Bits, Policy
from mmcompress.report import (
    make_chart,
    make_charts,
    plot_charts,
    plot_tradeoff,
    summarise,
)
from mmcompress.report.policy_chart import draw_charts


def test_summary_says_who_holds_the_channels(graph):
    stem, body = summarise(graph).units
    assert (stem.producers, stem.consumers, stem.others) == (
        ('stem',), ('body',), ('bn',))
    assert (body.width, body.granularity) == (8, 2)
    macs = {layer.name: layer.macs for layer in graph.layers}
    assert stem.share == (macs['stem'] + macs['body']) / sum(macs.values())


def test_summary_of_a_summary_is_itself(graph):
    summary = summarise(graph)
    assert summarise(summary) is summary


def test_absent_units_stay_dense(graph):
    stem, body = make_chart(graph, Policy({'stem': 2})).units
    assert (stem.kept, stem.ratio) == (2, 0.25)
    assert (body.kept, body.ratio) == (8, 1.0)


def test_bits_are_listed_only_if_something_is_quantised(graph):
    assert make_chart(graph, Policy({'stem': 2})).bits == {}
    chart = make_chart(graph, Policy(bits={'body': Bits(4, 8)}))
    assert chart.bits == {'stem': Bits(), 'body': Bits(4, 8), 'head.cls': Bits()}
    assert chart.units[1].bits == (Bits(4, 8),)


@pytest.mark.parametrize('policy', [
    Policy({'other': 3}), Policy(bits={'other': Bits(4, 4)})])
def test_policy_of_another_model_is_refused(graph, policy):
    with pytest.raises(PolicyError, match="'other'"):
        make_chart(graph, policy, 'macs_0.5')


@pytest.mark.parametrize('policies', [
    {'one': Policy({'stem': 2})},
    {'one': Policy({'stem': 2}), 'two': Policy({'body': 1})},
    {'one': Policy({'stem': 2}, {'body': Bits(4, 8)}), 'two': Policy()}])
@pytest.mark.parametrize('suffix', ['png', 'svg'])
def test_charts_are_drawn(graph, policies, suffix, tmp_path):
    path = plot_charts(make_charts(graph, policies), tmp_path / f'chart.{suffix}')
    start = path.read_bytes()[:200]
    assert start.startswith(b'\x89PNG') if suffix == 'png' else b'<?xml' in start
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_nothing_to_draw_is_an_error(tmp_path):
    with pytest.raises(PolicyError, match='no target was met'):
        plot_charts((), tmp_path / 'chart.png')
    assert not list(tmp_path.iterdir())


def test_tradeoff_is_drawn_without_pyplot_state(outcome, tmp_path):
    import matplotlib.pyplot as plt

    path = plot_tradeoff(outcome.tradeoff, tmp_path / 'tradeoff.png')
    assert path.read_bytes().startswith(b'\x89PNG')
    assert not plt.get_fignums()


def test_a_map_of_many_units_is_broken_into_lines_that_can_be_read(graph):
    units = tuple(replace(graph.units[0], name=f'backbone.stage{i}.blocks.conv.unit')
                  for i in range(67))
    charts = make_charts(replace(graph, units=units), dict(a=Policy(), b=Policy()))
    figure = draw_charts(charts)
    width, _ = figure.get_size_inches()
    maps = [a for a in figure.axes if a.images]
    # 67 = 33 or 34 twice; at 0.36 inches a column and 130 dots an inch, 47 pixels.
    assert sorted(len(a.get_xticks()) for a in maps) == [33, 34]
    assert width < 15
    texts = [t for a in maps for t in a.texts]
    assert len(texts) == 2 * 67 and min(t.get_fontsize() for t in texts) >= 8
