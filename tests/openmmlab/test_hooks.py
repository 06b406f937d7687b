"""What a search says while it runs."""

from types import SimpleNamespace

import pytest

from mmcompress.costs import Target
from mmcompress.openmmlab.hooks.search import SearchLoggerHook, SearchProgressHook
from mmcompress.policy import Policy
from mmcompress.searchers import Evaluated


@pytest.fixture
def loop():
    return SimpleNamespace(
        costs=SimpleNamespace(dense=lambda: dict(macs=200.0)), dense_score=0.8,
        targets=(Target('macs', 0.5, 100.0),), work_dir='w',
        searcher=SimpleNamespace(evaluations=4),
        study=SimpleNamespace(history=list),
        session=SimpleNamespace(score_name='top1'))


@pytest.fixture
def runner():
    lines, scalars = [], []
    return SimpleNamespace(
        lines=lines, scalars=scalars,
        logger=SimpleNamespace(info=lambda text, **_: lines.append(text)),
        visualizer=SimpleNamespace(
            add_scalars=lambda values, step: scalars.append((step, values))))


def evaluated(number: int) -> Evaluated:
    return Evaluated(number, Policy(), 0.7, dict(macs=90.0), {}, 1.5)


def test_every_score_is_logged(runner, loop):
    SearchLoggerHook().after_evaluation(runner, loop, evaluated(1))
    # 90 of 200 MACs; two more evaluations of 1.5 s.
    assert runner.lines == [
        'Search [2/4] score 0.70000 (top1, dense 0.80000), macs_ratio 0.450, 1.5 s, '
        '0:00:03 left']
    assert runner.scalars == [(1, dict(search_score=0.7, macs_ratio=0.45))]


def test_interval(runner, loop):
    hook = SearchLoggerHook(interval=2)
    for number in range(4):
        hook.after_evaluation(runner, loop, evaluated(number))
    assert [line[:12] for line in runner.lines] == ['Search [2/4]', 'Search [4/4]']
    assert len(runner.scalars) == 4


def test_no_bar_without_a_terminal(runner, loop, monkeypatch, capsys):
    monkeypatch.setattr('sys.stderr.isatty', lambda: False, raising=False)
    hook = SearchProgressHook()
    hook.before_search(runner, loop)
    hook.after_evaluation(runner, loop, evaluated(0))
    assert capsys.readouterr() == ('', '')


def test_bar_shows_the_best_of_every_target(runner, loop, monkeypatch, capsys):
    monkeypatch.setattr('sys.stderr.isatty', lambda: True, raising=False)
    loop.study.history = lambda: [evaluated(0)]
    hook = SearchProgressHook()
    hook.before_search(runner, loop)
    hook.after_evaluation(runner, loop, evaluated(0))
    hook._bar.progress.stop()
    task = hook._bar.progress.tasks[0]
    assert task.completed == 1 and task.total == 4
    assert task.fields['best'] == 'top1  macs_0.5 0.700'


def test_an_interrupted_search_closes_its_bar(runner, loop, monkeypatch, capsys):
    monkeypatch.setattr('sys.stderr.isatty', lambda: True, raising=False)
    hook = SearchProgressHook()
    hook.before_search(runner, loop)
    hook.search_interrupted(runner, loop)
    assert not hook._bar.shown
    capsys.readouterr()
    hook.search_interrupted(runner, loop)
    assert capsys.readouterr().err == '', 'no second bar'


def test_searches_of_one_second_have_logs_of_their_own(
        make_loop, tmp_path, monkeypatch):
    # mmengine keeps loggers by the name of the experiment, which ends in the second.
    monkeypatch.setattr('time.strftime', lambda *_: '20260101_000000')
    first, second = (
        make_loop(tmp_path / name / 'same', searcher=dict(type='Random', evaluations=1),
                  targets=dict(macs=[0.5])) for name in 'ab')
    second.runner.logger.info('said by the second')
    [one], [other] = ([*(tmp_path / name).rglob('*.log')] for name in 'ab')
    assert 'said by the second' in other.read_text()
    assert 'said by the second' not in one.read_text()
    assert first.runner.logger is not second.runner.logger
