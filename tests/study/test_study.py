"""The study: resume after kills, many workers, failures, signatures."""

import json
import logging
import math
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from mmcompress.costs import parse_targets
from mmcompress.errors import StudyError
from mmcompress.policy import Bits, Policy
from mmcompress.searchers import Evaluated, Evolution
from mmcompress.study import Claim, Study, choose
from mmcompress.testing import run_search, toy_costs, toy_score, toy_space

SIGNATURE = {'fingerprint': 'toy', 'searcher': {'type': 'Evolution', 'seed': 0}}
EVALUATIONS = 24

# Children are forked from a small server that has imported all: quick and safe.
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(['mmcompress.searchers', 'mmcompress.testing'])


@pytest.fixture(params=['sqlite', 'journal'])
def url(request, tmp_path: Path) -> str:
    """URL of a new storage on disk."""
    return f'{request.param}:///{tmp_path}/search.db'


def open_study(url: str | None, **kwargs) -> Study:
    return Study(url, 'search', SIGNATURE, **kwargs)


def make_searcher() -> Evolution:
    costs = toy_costs(toy_space((4, 8, 32), divisor=1))
    targets = parse_targets({'bops': [0.5, 0.3, 0.15]}, costs)
    return Evolution(costs.space, costs, targets, EVALUATIONS)


def evaluated(number: int, policy: Policy | None = None, score: float = 0.5):
    policy = Policy({'stem': 8}) if policy is None else policy
    return Evaluated(number, policy, score, {'macs': 1.0}, {'top1': score}, 0.1)


def work(url: str, log: str | None = None, seconds: float = 0.0) -> None:
    """Search like a worker does, with a deterministic score."""
    searcher = make_searcher()
    score = toy_score(searcher.space)
    study = open_study(url)
    while (claim := study.claim(EVALUATIONS)) is not None:
        policy = choose(searcher, study, claim)
        time.sleep(seconds)
        study.finish(claim, Evaluated(
            claim.number, policy, score(policy), searcher.costs.of(policy)))
        if log is not None:
            note(log, claim.number)


def note(log: str, number: int) -> None:
    # One short write in append mode is not torn apart by other processes.
    with open(log, 'a') as file:
        file.write(json.dumps([os.getpid(), number]) + '\n')


def noted(log: Path) -> list[tuple[int, int]]:
    return [tuple(json.loads(line)) for line in log.read_text().splitlines()]


def start(target, *args):
    process = CONTEXT.Process(target=target, args=args)
    process.start()
    return process


def join(*processes) -> None:
    for process in processes:
        process.join(60)
        assert process.exitcode == 0


# -- one worker ----------------------------------------------------------------
def test_history_is_read_back_exactly(url):
    study = open_study(url)
    policy = Policy({'stem': 8, 'head': 12}, {'fc': Bits(4, 8)})
    scores = [0.1 + 1 / 3, 0.3649999999999999, 0.365]
    for score in scores:
        claim = study.claim(3)
        assert claim.policy is None
        study.record_policy(claim, policy)
        assert study.finish(claim, Evaluated(
            claim.number, policy, score, {'macs': 1 / 7}, {'top1': 2 / 7}, 0.25))
    again = open_study(url).history()
    assert again == study.history()
    assert [e.number for e in again] == [0, 1, 2]
    assert [e.score for e in again] == scores
    assert again[0] == Evaluated(
        0, policy, scores[0], {'macs': 1 / 7}, {'top1': 2 / 7}, 0.25)
    assert study.claim(3) is None
    assert study.claim(4).number == 3, 'a longer search goes on'


def test_failures_keep_their_number_and_are_not_ranked(url):
    study = open_study(url)
    study.finish(study.claim(4), evaluated(0))
    claim = study.claim(4)
    study.record_policy(claim, Policy({'stem': 4}))
    study.fail(claim, 'CUDA out of memory')
    for number, score in ((2, math.nan), (3, math.inf)):
        assert not study.finish(study.claim(4), evaluated(number, score=score))
    assert study.claim(4) is None
    assert [e.number for e in study.history()] == [0]
    first, second, third = open_study(url).failures()
    assert (first.number, first.policy) == (1, Policy({'stem': 4}))
    assert first.reason == 'CUDA out of memory'
    assert second.reason == 'the score is nan' and third.number == 3


def test_released_claim_is_taken_again(url):
    study = open_study(url)
    claim = study.claim(2)
    assert study.running() == [0]
    study.record_policy(claim, Policy({'stem': 4}))
    study.release(claim)
    assert study.running() == []
    again = study.claim(2)
    assert (again.number, again.policy) == (0, Policy({'stem': 4}))
    study.finish(again, evaluated(0))
    assert study.claim(2).number == 1


def test_attributes_of_the_study(url):
    study = open_study(url)
    assert study.get_attr('dense_score') is None
    study.set_attr('dense_score', 1 / 3)
    assert open_study(url).get_attr('dense_score') == 1 / 3


def test_in_memory():
    study = open_study(None)
    study.finish(study.claim(1), evaluated(0))
    assert len(study.history()) == 1


def test_thousands_of_evaluations_stay_cheap(tmp_path):
    study = open_study(f'journal:///{tmp_path}/log')
    policy = Policy({f'u{i}': i for i in range(150)})
    for number in range(300):
        study.finish(study.claim(300), evaluated(number, policy))
    start = time.perf_counter()
    for _ in range(10):
        study.history()
    assert (time.perf_counter() - start) / 10 < 0.02


# -- whose study is it ---------------------------------------------------------
def test_signature_of_another_search(url):
    open_study(url)
    other = {'fingerprint': 'toy', 'searcher': {'type': 'Evolution', 'seed': 1}}
    with pytest.raises(StudyError, match=(
            r"belongs to another search.*searcher\.seed \(study: 0, now: 1\)"
            r'.*choose another work dir')):
        Study(url, 'search', other)
    Study(url, 'another name', other)


def test_signature_names_what_is_missing_and_stops_at_five():
    from mmcompress.study.signature import check_signature
    check_signature('Study', {'a': [1, {'b': 2}]}, {'a': [1, {'b': 2}]})
    with pytest.raises(StudyError, match=r'b \(study: not set, now: 1\)'):
        check_signature('Study', {}, {'b': 1})
    with pytest.raises(StudyError, match='and 2 more'):
        check_signature('Study', {}, {str(i): i for i in range(7)})


def test_tuples_and_lists_are_the_same_signature(url):
    Study(url, 's', {'targets': (0.5, 0.3)})
    Study(url, 's', {'targets': [0.5, 0.3]})


def test_study_of_another_program(tmp_path):
    import optuna
    url = f'sqlite:///{tmp_path}/a.db'
    optuna.create_study(study_name='search', storage=url).ask()
    with pytest.raises(StudyError, match='not made by mmcompress'):
        open_study(url)


@pytest.mark.parametrize('url', [
    'nonsense', 'foo://x', 'sqlite:///:memory:', 'sqlite:////proc/none/a.db'])
def test_storage_that_cannot_be_opened(url):
    with pytest.raises(StudyError, match=r'cannot be opened.*sqlite:///file\.db'):
        open_study(url)


def test_file_that_is_no_database(tmp_path):
    (tmp_path / 'a.db').write_text('certainly not a database' * 100)
    with pytest.raises(StudyError, match='cannot be opened'):
        open_study(f'sqlite:///{tmp_path}/a.db')


def test_password_is_not_shown():
    with pytest.raises(StudyError) as error:
        open_study('foo://me:secret@host/db')
    assert 'secret' not in str(error.value) and 'me:***@host' in str(error.value)


# -- killed workers ------------------------------------------------------------
def test_killed_search_ends_like_an_uninterrupted_one(url, tmp_path):
    log = tmp_path / 'log'
    for until in (5, 13):
        process = start(work, url, str(log), 0.01)
        while not log.exists() or len(noted(log)) < until:
            assert process.is_alive()
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    join(start(work, url, str(log)))
    searcher = make_searcher()
    expected = run_search(searcher, toy_score(searcher.space))
    assert len(expected) == EVALUATIONS
    assert open_study(url).history() == list(expected)


def die_at(url: str, moment: str) -> None:
    study = open_study(url)
    claim = study.claim(5)
    if moment != 'claimed':
        study.record_policy(claim, Policy({'stem': 6}))
    if moment == 'finishing':
        study._set(claim, costs={}, metrics={}, seconds=1.0)
    if moment == 'taking over':
        study._end(claim.trial, study._attempts()[claim.number].trial.state.FAIL)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize('moment', ['claimed', 'recorded', 'finishing', 'taking over'])
def test_killed_at_any_moment_the_number_is_taken_again(url, moment):
    open_study(url)
    for _ in range(2):  # The one that takes over is killed as well.
        start(die_at, url, moment).join()
    study = open_study(url)
    assert study.running() == []
    claim = study.claim(5)
    expected = None if moment == 'claimed' else Policy({'stem': 6})
    assert (claim.number, claim.policy) == (0, expected)
    assert study.claim(5).number == 1
    study.finish(claim, evaluated(0))
    assert [e.number for e in open_study(url).history()] == [0]
    assert study.failures() == []


def test_what_is_known_to_a_claim(url):
    study = open_study(url)
    mine, other, done = (study.claim(5) for _ in range(3))
    for claim, stem in ((mine, 4), (other, 6), (done, 8)):
        study.record_policy(claim, Policy({'stem': stem}))
    study.finish(done, evaluated(2))
    history, pending = study.known(mine)
    assert history == study.history() and [e.number for e in history] == [2]
    assert pending == [Policy({'stem': 6})]


# -- several workers -----------------------------------------------------------
def test_two_workers_split_the_evaluations_and_lose_none(url, tmp_path):
    open_study(url)
    log = tmp_path / 'log'
    join(*(start(work, url, str(log), 0.02) for _ in range(2)))
    done = noted(log)
    assert sorted(number for _, number in done) == list(range(EVALUATIONS))
    shares = [sum(pid == p for pid, _ in done) for p in {pid for pid, _ in done}]
    assert len(shares) == 2 and min(shares) >= EVALUATIONS // 4
    history = open_study(url).history()
    assert [e.number for e in history] == list(range(EVALUATIONS))
    assert len({e.policy for e in history}) == EVALUATIONS


def claim_all(url: str, evaluations: int, log: str, barrier) -> None:
    study = open_study(url)
    barrier.wait(30)
    claims = []
    while (claim := study.claim(evaluations)) is not None:
        claims.append(claim)
    barrier.wait(30)  # Nobody dies while others still claim.
    for claim in claims:
        note(log, claim.number)
        assert study.finish(claim, evaluated(claim.number))


def abandon(url: str, count: int) -> None:
    study = open_study(url)
    for _ in range(count):
        study.claim(count)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize('abandoned', [0, 12])
def test_racing_workers_never_share_a_number(url, tmp_path, abandoned):
    log, workers = tmp_path / 'log', 4
    barrier = CONTEXT.Barrier(workers)
    if abandoned:
        start(abandon, url, abandoned).join()
    join(*(start(claim_all, url, 12, str(log), barrier) for _ in range(workers)))
    assert sorted(number for _, number in noted(log)) == list(range(12))
    study = open_study(url)
    assert [e.number for e in study.history()] == list(range(12))
    assert study.failures() == [] and study.claim(12) is None


def test_workers_that_start_together_create_one_study(url):
    # The storage does not exist yet: its tables are made by several at once.
    join(*(start(open_study, url) for _ in range(4)))
    assert open_study(url).history() == []


# -- workers on other hosts ----------------------------------------------------
def elsewhere(url: str, **kwargs) -> tuple[Study, Claim]:
    """A study whose worker runs on another host, and its first claim."""
    study = open_study(url, **kwargs)
    study._worker = {**study._worker, 'host': 'another host', 'pid': 1}
    return study, study.claim(3)


def silence(study: Study, claim: Claim) -> None:
    study._beats[claim.trial].stop()
    time.sleep(0.05)


def test_heartbeat_keeps_a_claim(url):
    remote, claim = elsewhere(url, stale_after=2.0)
    time.sleep(2.6)
    study = open_study(url, stale_after=2.0)
    assert study.running() == [0]
    assert study.claim(3).number == 1
    silence(remote, claim)


def test_silent_worker_loses_its_claim_and_cannot_count_twice(url, caplog):
    remote, claim = elsewhere(url)
    remote.record_policy(claim, Policy({'stem': 6}))
    silence(remote, claim)
    patient, hasty = open_study(url), open_study(url, stale_after=0.01)
    assert patient.claim(3).number == 1
    taken = hasty.claim(3)
    assert (taken.number, taken.policy) == (0, Policy({'stem': 6}))
    with caplog.at_level(logging.WARNING, 'mmcompress'):
        assert not remote.finish(claim, evaluated(0, score=0.9))
    assert 'raise stale_after' in caplog.text
    assert hasty.finish(taken, evaluated(0, score=0.5))
    assert [e.score for e in remote.history()] == [0.5]


# -- what goes on, and what does not -------------------------------------------
def test_more_evaluations_continue_a_study_and_other_settings_do_not(url):
    def signed(**searcher) -> dict:
        return {'searcher': {'type': 'Evolution', **searcher}}

    Study(url, 'search', signed(seed=0, evaluations=12))
    Study(url, 'search', signed(seed=0, evaluations=24))
    Study(url, 'search', signed(seed=0))  # of a version that signs no number
    with pytest.raises(StudyError, match=r'searcher\.seed'):
        Study(url, 'search', signed(seed=1, evaluations=12))


def test_a_policy_that_kills_its_workers_fails_after_three(url, caplog):
    open_study(url)
    for _ in range(3):
        start(die_at, url, 'recorded').join()
    study = open_study(url)
    with caplog.at_level(logging.WARNING, 'mmcompress'):
        claim = study.claim(5)
    assert (claim.number, claim.policy) == (1, None), 'the search goes on'
    failure, = open_study(url).failures()
    assert failure.number == 0 and failure.policy == Policy({'stem': 6})
    assert '3 workers died of it' in failure.reason
    assert 'Evaluation 0 failed and is not ranked: 3 workers died' in caplog.text


def test_what_a_user_interrupts_is_no_death(url):
    for _ in range(5):
        study = open_study(url)
        claim = study.claim(5)
        assert claim.number == 0
        study.record_policy(claim, Policy({'stem': 6}))
        study.release(claim)
    assert study.failures() == []


def test_a_study_without_a_result_can_be_discarded(url):
    study = open_study(url)
    claim = study.claim(5)
    study.discard()
    assert open_study(url).running() == [0], 'somebody works on it'
    study.release(claim)
    study.discard()
    Study(url, 'search', {'another': 'search'})


def test_a_study_with_a_result_is_never_discarded(url):
    study = open_study(url)
    study.finish(study.claim(5), evaluated(0))
    study.discard()
    assert len(open_study(url).history()) == 1


@pytest.mark.parametrize('rest', [b'{"op_code":5,"wor', b'{', b'{"a":1}'])
def test_a_journal_with_a_partial_last_line_goes_on(tmp_path, rest):
    # What a full disk or a kill within a write leaves.
    path = tmp_path / 'log'
    study = open_study(f'journal:///{path}')
    for number in range(2):
        study.finish(study.claim(4), evaluated(number))
    with open(path, 'ab') as file:
        file.write(rest)
    study = open_study(f'journal:///{path}')
    study.finish(study.claim(4), evaluated(2))
    again = open_study(f'journal:///{path}')
    assert [e.number for e in again.history()] == [0, 1, 2]
    assert again.claim(4).number == 3
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_a_journal_on_a_full_disk_goes_on(tmp_path, monkeypatch):
    path = tmp_path / 'log'
    study = open_study(f'journal:///{path}')
    study.finish(study.claim(4), evaluated(0))
    claim = study.claim(4)

    def full(handle: int) -> None:
        os.truncate(path, path.stat().st_size - 7)  # so much found no place
        raise OSError(28, 'No space left on device')

    study._beats[claim.trial].stop()
    with monkeypatch.context() as disk:
        disk.setattr(os, 'fsync', full)
        with pytest.raises(OSError, match='No space left'):
            study.record_policy(claim, Policy({'stem': 4}))
    again = open_study(f'journal:///{path}')
    again._worker = {**again._worker, 'pid': 0}
    assert [e.number for e in again.history()] == [0]
    again.set_attr('written', 1)
    assert open_study(f'journal:///{path}').get_attr('written') == 1
