"""Searches that are corrected, extended and asked again in one work dir."""

import pytest
import torch
from test_failing_evaluations import (
    Score,
    Told,
    boom,
    made,
    no_pictures,  # noqa: F401
)
from test_front_door import IMAGES, Small

import mmcompress as mmc
from mmcompress.api.run import SearchRun
from mmcompress.errors import CompressionError, TargetError
from mmcompress.report import load_outcome


def search(work_dir, listener=None, **options):
    options = dict(dict(macs=[0.75], searcher='Random', evaluations=4), **options)
    session = made(Score(boom, ()))
    return mmc.search(session, work_dir=work_dir, listener=listener or Told(),
                      **options)


@pytest.mark.parametrize('mistake, message', [
    (dict(evaluations=0), r'evaluations of search\(\) is a whole number of at least'),
    (dict(evaluations=-3), 'evaluations of search'),
    (dict(evaluations=2.5), 'evaluations of search'),
    (dict(seed=-1), 'seed of search.* is a whole number of at least 0 or None, not -1'),
    (dict(time_limit=0), 'time_limit of search.* is a number above 0'),
    (dict(searcher=dict(type='LeGR', population=0)), "population of the searcher 'LeG"),
    (dict(stale_after=-1), 'stale_after of search.* is a number above 0'),
    # Random needs no prices, but their settings are signed.
    (dict(prices=dict(images=0)), 'images of .* is a whole number'),
    (dict(prices=dict(batch_size=0)), 'batch_size of .* is a whole number'),
])
def test_a_mistaken_value_does_not_block_the_corrected_search(
        tmp_path, mistake, message):
    with pytest.raises(CompressionError, match=message):
        search(tmp_path, **mistake)
    assert not list(tmp_path.iterdir()), 'refused before there is a study'
    assert len(load_outcome(search(tmp_path).work_dir).tradeoff.points) == 4


@pytest.mark.parametrize('call', [0, 1])
def test_who_interrupts_at_once_may_correct_the_search(tmp_path, call):
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # at the dense network, or the first policy
        mmc.search(made(Score(stop, {call})), macs=[0.75], searcher='Random',
                   work_dir=tmp_path, listener=Told())
    search(tmp_path, seed=5)


def test_a_searcher_that_raises_does_not_block_the_corrected_search(
        tmp_path, monkeypatch):
    from mmcompress.searchers import Random

    with monkeypatch.context() as broken:
        broken.setattr(Random, 'propose', lambda *_: boom())
        with pytest.raises(RuntimeError):
            search(tmp_path)
    search(tmp_path, seed=5)


@pytest.mark.parametrize('searcher', ['Random', 'Evolution', 'Uniform'])
def test_more_evaluations_extend_a_finished_search(tmp_path, searcher):
    first, second = Told(), Told()
    before = search(tmp_path, first, searcher=searcher, evaluations=3)
    policies = {p.number: p.costs for p in before.outcome.tradeoff.points}
    after = search(tmp_path, second, searcher=searcher, evaluations=6)
    assert first.numbers == [0, 1, 2] and second.numbers == [3, 4, 5]
    points = after.outcome.tradeoff.points
    assert len(points) == 6 and len(policies) == 3
    assert {p.number: p.costs for p in points if p.number in policies} == policies


def test_uniform_evaluates_nothing_twice_when_extended(tmp_path):
    search(tmp_path, searcher='Uniform', evaluations=3)
    family = search(tmp_path, searcher='Uniform', evaluations=6)
    costs = [tuple(p.costs.items()) for p in family.outcome.tradeoff.points]
    assert len(costs) == 6 == len(set(costs))


def test_further_targets_join_the_report(tmp_path):
    session = made(Score(boom, ()))
    options = dict(searcher=dict(type='Random', evaluations=8, seed=0),
                   targets=dict(macs=[0.75]), work_dir=tmp_path)
    SearchRun(session, **options).run()
    SearchRun(session, **options).answer(dict(macs=[0.9], params='95%'))
    found = load_outcome(tmp_path)
    names = ['macs_0.75', 'macs_0.9', 'params_0.95']
    assert [r.target for r in found.tradeoff.rows] == ['dense', *names]
    assert list(found.policies) == names
    assert (tmp_path / 'policies/macs_0.9.json').is_file()
    # A later run of the search keeps them.
    SearchRun(session, **options).run()
    assert [r.target for r in load_outcome(tmp_path).tradeoff.rows] == [
        'dense', *names]


def test_milliseconds_are_asked_of_a_search_that_measured_them(tmp_path):
    session = made(Score(boom, ()))
    run = SearchRun(session, dict(type='Random', evaluations=4, seed=0),
                    dict(macs=[0.75]), tmp_path)
    run.run()
    with pytest.raises(TargetError, match='latency_ms was not measured in this search'):
        run.answer(dict(latency_ms=3.0))


def test_a_budget_above_the_dense_cost_is_said(tmp_path):
    told = Told()
    search(tmp_path, told, macs=[1e9])
    assert told.warnings[0].startswith(
        'Target macs_1e+09 allows what the dense model costs: macs ')


def test_the_dense_latency_is_said_before_the_search(tmp_path, monkeypatch):
    # A hundredth of a millisecond a channel: 16 and 32 channels, 0.48 ms.
    monkeypatch.setattr('mmcompress.api.run.latency_of', lambda *_, **__: (
        lambda table, widths, *_: widths.sum(-1) / 100))
    told = Told()
    search(tmp_path, told, macs=[], latency_ms=['70%', 1e6], evaluations=2)
    assert told.lines[0] == (
        'Dense model: latency_ms = 0.480 (of its layers, measured on this machine)')
    assert told.lines[1].startswith('Dense model: v1 = ')
    assert load_outcome(tmp_path).tradeoff.row('latency_ms_70pct').latency_ms <= 0.336
    assert told.warnings[0] == (
        'Target latency_ms_1e+06 allows what the dense model costs: latency_ms 0.48 of '
        '1e+06.')


@pytest.mark.parametrize('option, close', [
    (dict(chanel=dict(divisor=4)), 'channel'), (dict(quantt=dict(bits=[8])), 'quant'),
    (dict(channel=dict(divisr=4)), 'divisor')])
def test_mistyped_names_of_prepare(option, close):
    with pytest.raises(CompressionError, match=f'Did you mean {close!r}'):
        mmc.prepare(Small(), torch.zeros(1, 3, 16, 16), IMAGES.split(8), **option)
