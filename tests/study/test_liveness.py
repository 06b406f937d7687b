"""Which workers count as alive, and what becomes of the work of the others."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from mmcompress.policy import Policy
from mmcompress.searchers import Listed
from mmcompress.study import Study, choose, waiting
from mmcompress.study.worker import is_alive, this_worker
from mmcompress.testing import toy_costs, toy_space


@pytest.fixture
def child():
    """A process of ours that does nothing, and its description as a worker."""
    process = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
    created = psutil.Process(process.pid).create_time()
    yield process, dict(this_worker(), pid=process.pid, created=created)
    process.kill()
    process.wait()


def until(process: subprocess.Popen, status: str) -> None:
    end = time.monotonic() + 10
    while psutil.Process(process.pid).status() != status:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_zombie_is_dead(child):
    process, worker = child
    assert is_alive(worker, time.time(), 300)
    os.kill(process.pid, signal.SIGKILL)
    until(process, psutil.STATUS_ZOMBIE)
    assert not is_alive(worker, time.time(), 300)


def test_a_stopped_process_counts_as_dead_once_it_has_been_silent(child):
    process, worker = child
    assert is_alive(worker, time.time() - 400, 300), 'busy, but there'
    os.kill(process.pid, signal.SIGSTOP)
    until(process, psutil.STATUS_STOPPED)
    assert is_alive(worker, time.time() - 200, 300)
    assert not is_alive(worker, time.time() - 400, 300)


def test_who_waits_takes_over_the_last_evaluation_of_a_worker_that_dies(
        child, monkeypatch):
    process, worker = child
    monkeypatch.setattr(waiting, 'PAUSE', 0.01)
    study, told = Study(None, 'search', {}), []
    mine = study._worker
    study._worker = worker
    theirs = study.claim(1)
    study.record_policy(theirs, Policy({'stem': 6}))
    study._worker = mine

    def log(text: str) -> None:
        told.append(text)
        process.kill()

    claim = waiting.next_claim(study, 1, log)
    assert (claim.number, claim.policy) == (0, Policy({'stem': 6}))
    assert told == ['Waiting for evaluations that other workers make: 0.']
    study.fail(claim, 'enough')
    assert waiting.next_claim(study, 1, told.append) is None and len(told) == 1


def test_a_claim_without_a_policy_of_its_own_keeps_none():
    # Two workers record the same policy in the same moment: both give it back.
    costs = toy_costs(toy_space())
    study, policy = Study(None, 'search', {}), costs.space.decode(
        costs.space.lowest)[0]
    ours, theirs = study.claim(9), study.claim(9)

    class Racing(Listed):
        def propose(self, *args):
            found = super().propose(*args)
            study.record_policy(theirs, policy)
            return found

    assert choose(Racing(costs.space, costs, [policy]), study, ours) is None
    study.release(ours)
    again = study.claim(9)
    assert (again.number, again.policy) == (ours.number, None)
