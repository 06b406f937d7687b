"""No evaluation that raises, hangs or is interrupted stops a search for good."""

import time

import pytest
import torch
from test_front_door import IMAGES, prepared

import mmcompress as mmc
from mmcompress.api.attempts import time_limit
from mmcompress.api.listener import Listener
from mmcompress.errors import CompressionError
from mmcompress.report import load_outcome, save_outcome
from mmcompress.study import Study
from mmcompress.study.seed import signature_in
from mmcompress.study.storage import open_storage


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Write the outcome of searches, and draw nothing: that takes the most time."""
    from mmcompress.api import run

    monkeypatch.setattr(
        run, 'write_all', lambda o, folder: save_outcome(folder / 'outcome.json', o))


class Told(Listener):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.warnings, self.lines, self.numbers = [], [], []

    def log(self, text):
        self.lines.append(text)

    def warn(self, text):
        self.warnings.append(text)

    def after_evaluation(self, run, evaluated):
        self.numbers.append(evaluated.number)


class Score:
    """A score that does something else in some calls, the dense one not counted."""

    def __init__(self, act, calls) -> None:
        self.act, self.calls, self.count = act, calls, -1

    def __call__(self, net) -> float:
        self.count += 1
        if self.count in self.calls:
            self.act()
        return -float(net(IMAGES).var())


def boom() -> None:
    raise RuntimeError('the metric is broken')


def made(score):
    """A session with many policies."""
    return prepared(score=score, score_name='v1', channel=dict(divisor=1))


def search(score, work_dir, listener=None, session=None, **options):
    session = session or made(score)
    options = dict(dict(macs=[0.75], searcher='Random', evaluations=6), **options)
    return mmc.search(session, work_dir=work_dir, listener=listener or Told(),
                      **options)


def failures(work_dir):
    storage = f'sqlite:///{work_dir}/search.db'
    study = Study(storage, 'search', signature_in(open_storage(storage), 'search'))
    return study.failures()


def test_one_that_raises_twice_is_recorded_and_the_search_goes_on(tmp_path):
    told = Told()
    search(Score(boom, {2, 3}), tmp_path, told)  # the second policy, both attempts
    assert told.numbers == [0, 2, 3, 4, 5]
    failure, = failures(tmp_path)
    assert failure.number == 1 and failure.policy is not None
    assert failure.reason == 'RuntimeError: the metric is broken.'
    assert told.warnings == [
        'A policy is scored once more after RuntimeError: the metric is broken.',
        'Evaluation 1 failed and is not ranked: RuntimeError: the metric is broken.']
    assert 'Traceback' in ''.join(told.lines)
    assert load_outcome(tmp_path).tradeoff.failures == 1


def test_one_that_raises_once_is_scored(tmp_path):
    told = Told()
    search(Score(boom, {2}), tmp_path, told)
    assert told.numbers == [0, 1, 2, 3, 4, 5] and not failures(tmp_path)


def test_where_all_fail_the_search_stops_with_a_sentence_and_goes_on_later(tmp_path):
    with pytest.raises(CompressionError, match=(
            r'5 evaluations in a row failed, the last one by RuntimeError: the metric '
            r'is broken\. Mend this, then run the same command again')):
        search(Score(boom, range(1, 100)), tmp_path, evaluations=9)
    told = Told()
    search(Score(boom, ()), tmp_path, told, evaluations=9)
    assert told.numbers == [5, 6, 7, 8]


def test_one_that_takes_too_long_has_failed(tmp_path):
    told = Told()
    search(Score(lambda: time.sleep(30), {2}), tmp_path, told, time_limit=1.0)
    failure, = failures(tmp_path)
    assert failure.number == 1
    assert failure.reason == (
        'TimeoutError: it took longer than the time_limit of 1 s.')
    assert told.numbers == [0, 2, 3, 4, 5]


def test_an_alarm_leaves_nothing_behind():
    with time_limit(0.05):
        pass
    time.sleep(0.1)
    with time_limit(None):
        pass
    with pytest.raises(CompressionError, match='above 0'), time_limit(-1):
        pass


def test_out_of_memory_halves_the_batch_once(tmp_path):
    def full() -> None:
        raise torch.cuda.OutOfMemoryError('CUDA out of memory')

    score = Score(full, {2})
    session = made(score)
    before = [len(b.inputs) for b in session.evaluator.scoring]
    told = Told()
    search(score, tmp_path, told, session)
    assert before == [8, 8]
    assert [len(b.inputs) for b in session.evaluator.scoring] == [4, 4, 4, 4]
    assert told.numbers == [0, 1, 2, 3, 4, 5]
    assert 'half as many images' in told.warnings[0]


def test_halves_give_the_same_distance():
    session = prepared()  # scored by the distance from the dense outputs
    policy = session.space.decode(session.space.lowest)[0]
    whole = session.score(policy).value
    session.evaluator.halve_batches()
    assert len(session.evaluator.scoring) == 2
    assert session.score(policy).value == pytest.approx(whole, rel=1e-4)


def test_an_interrupted_one_is_taken_again(tmp_path):
    def stop() -> None:
        raise KeyboardInterrupt

    closed = []
    told = Told()
    told.interrupted = closed.append
    with pytest.raises(KeyboardInterrupt):
        search(Score(stop, {2}), tmp_path, told)
    assert len(closed) == 1, 'the bar would be drawn again'
    again = Told()
    search(Score(stop, ()), tmp_path, again)
    assert told.numbers + again.numbers == [0, 1, 2, 3, 4, 5]
    assert not failures(tmp_path)
