"""A search on a real PostgreSQL that is killed, cut off and started again."""

from __future__ import annotations

import json
import multiprocessing
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from mmcompress.costs import parse_targets
from mmcompress.errors import StudyError
from mmcompress.searchers import Evaluated, Evolution
from mmcompress.study import Study, choose, database
from mmcompress.testing import toy_costs, toy_score, toy_space

psycopg = pytest.importorskip(
    'psycopg', reason='no driver of PostgreSQL: pip install "psycopg[binary]"')

EVALUATIONS, WORKERS = 200, 4
EVENTS = dict(kill=10, cut=6, stop=1)
PASSWORD = 'geheim'

CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(['mmcompress.searchers', 'mmcompress.testing'])


class Server:
    """A PostgreSQL of its own folder and port, run by a user who is not root.

    Args:
        programs (Path): Folder of ``initdb`` and ``postgres``.
        folder (Path): For its data.
    """

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs, self.folder = programs, folder
        self.user: dict = {}
        if os.getuid() == 0:
            names = {entry.pw_name: entry for entry in pwd.getpwall()}
            entry = names.get('postgres') or names['nobody']
            self.user = dict(user=entry.pw_uid, group=entry.pw_gid, extra_groups=[])
            os.chown(folder, entry.pw_uid, entry.pw_gid)
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            self.port = free.getsockname()[1]
        self.address = f'admin:{PASSWORD}@127.0.0.1:{self.port}/postgres'
        self.url = f'postgresql+psycopg://{self.address}'
        secret = folder / 'password'
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run('initdb', '-D', folder / 'data', '-U', 'admin', '-A', 'scram-sha-256',
                  f'--pwfile={secret}', '--no-sync')
        self.start()

    def _run(self, program: str, *arguments: object) -> None:
        subprocess.run(
            [self.programs / program, *map(str, arguments)], check=True,
            capture_output=True, cwd=self.folder, **self.user)

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.process = subprocess.Popen(
            [self.programs / 'postgres', '-D', self.folder / 'data', '-p',
             str(self.port), '-h', '127.0.0.1', '-k', self.folder, '-F'],
            cwd=self.folder, stderr=subprocess.DEVNULL, **self.user)
        end = time.monotonic() + 60
        while True:
            try:
                return self.sql('select 1')
            except psycopg.OperationalError:
                assert time.monotonic() < end, 'the server does not start'
                time.sleep(0.1)

    def sql(self, command: str) -> None:
        """Run a command in a connection of its own."""
        with psycopg.connect(f'postgresql://{self.address}', autocommit=True) as link:
            link.execute(command)

    def kill(self) -> None:
        """Kill it; its children see that and end."""
        self.process.kill()
        self.process.wait()
        time.sleep(0.5)

    def cut(self) -> None:
        """End all connections."""
        self.sql('select pg_terminate_backend(pid) from pg_stat_activity where '
                 "pid <> pg_backend_pid() and backend_type = 'client backend'")


@pytest.fixture(scope='module')
def server() -> Iterator[Server]:
    """A running server; the test is skipped where there are no programs of one."""
    found = [*sorted(Path('/usr/lib/postgresql').glob('*/bin/initdb'), reverse=True),
             *filter(None, [shutil.which('initdb')])]
    if not found:
        pytest.skip('no PostgreSQL server on this machine')
    folder = Path(tempfile.mkdtemp(prefix='mmcompress-pg-'))
    server = Server(Path(found[0]).parent, folder)
    try:
        yield server
    finally:
        server.process.send_signal(signal.SIGQUIT)
        server.process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def work(url: str, log: str) -> None:
    """Search as a worker does: note that it has begun, and all that counts."""
    costs = toy_costs(toy_space((4, 8, 32), divisor=1))
    targets = parse_targets({'bops': [0.5, 0.3, 0.15]}, costs)
    searcher = Evolution(costs.space, costs, targets, EVALUATIONS)
    score, study = toy_score(searcher.space), Study(url, 'search', {})
    note(log, -1)
    while (claim := study.claim(EVALUATIONS)) is not None:
        policy = choose(searcher, study, claim)
        time.sleep(0.02)
        if study.finish(claim, Evaluated(
                claim.number, policy, score(policy), searcher.costs.of(policy))):
            note(log, claim.number)


def note(log: str, number: int) -> None:
    # One short write in append mode is not torn apart by other processes.
    with open(log, 'a') as file:
        file.write(json.dumps([os.getpid(), number]) + '\n')


class Chaos:
    """Workers, and what happens to them.

    Args:
        server (Server): Holds their study.
        log (Path): Where they note what they have done.
    """

    def __init__(self, server: Server, log: Path) -> None:
        self.server, self.log, self.killed = server, log, set()
        self.workers, self.stopped = [], None
        log.touch()
        for _ in range(WORKERS):
            self.begin()
        self.wait(lambda: len(self.noted()) >= WORKERS)

    def noted(self) -> list[tuple[int, int]]:
        return [tuple(json.loads(line)) for line in self.log.read_text().splitlines()]

    def done(self) -> int:
        return sum(number >= 0 for _, number in self.noted())

    def begin(self) -> None:
        """Start a worker."""
        worker = CONTEXT.Process(
            target=work, args=(self.server.url, str(self.log)),
            daemon=True)
        worker.start()
        self.workers.append(worker)

    def wait(self, for_what: Callable[[], bool]) -> None:
        end = time.monotonic() + 120
        while not for_what():
            assert time.monotonic() < end
            self.check()
            time.sleep(0.01)

    def check(self) -> None:
        """Nobody dies but who was killed."""
        dead = [w.pid for w in self.workers
                if w.exitcode not in (None, 0) and w.pid not in self.killed]
        assert not dead, dead

    def happen(self, event: str, rng: random.Random) -> None:
        alive = [w for w in self.workers if w.is_alive() and w is not self.stopped]
        if event == 'kill':
            worker = rng.choice(alive)
            self.killed.add(worker.pid)
            worker.kill()
            worker.join()
            self.begin()
        elif event == 'cut':
            self.server.cut()
        elif event == 'crash':
            self.server.kill()
            self.server.start()
        elif event == 'stop':
            self.stopped = rng.choice(alive)
            os.kill(self.stopped.pid, signal.SIGSTOP)
        else:
            os.kill(self.stopped.pid, signal.SIGCONT)


def test_no_evaluation_is_lost_or_counted_twice(server, tmp_path):
    rng, chaos = random.Random(0), Chaos(server, tmp_path / 'log')
    events = [name for name, times in EVENTS.items() for _ in range(times)]
    rng.shuffle(events)
    # First the server, which all must have opened: a search begins with a sentence
    # where there is none.
    for i, event in enumerate(['crash', *events, 'continue']):
        chaos.wait(lambda i=i: chaos.done() >= 9 * (i + 1))
        time.sleep(rng.uniform(0, 0.1))
        chaos.happen(event, rng)
    for worker in chaos.workers:
        worker.join(120)
    chaos.check()
    assert len(chaos.killed) == EVENTS['kill']
    study = Study(server.url, 'search', {})
    history = study.history()
    assert [e.number for e in history] == list(range(EVALUATIONS))
    assert len({e.policy for e in history}) == EVALUATIONS
    assert study.failures() == [] and study.claim(EVALUATIONS) is None
    counted = [number for _, number in chaos.noted() if number >= 0]
    assert len(set(counted)) == len(counted), 'none twice'
    # A worker may be killed after its result is stored and before it notes it.
    assert len(counted) >= EVALUATIONS - len(chaos.killed)


def test_a_wrong_password_and_no_server_are_sentences(server):
    with pytest.raises(StudyError, match=r'admin:\*\*\*@.*password') as error:
        Study(server.url.replace(PASSWORD, 'verraten'), 'search', {})
    assert 'verraten' not in str(error.value)
    with pytest.raises(StudyError, match=r'cannot be opened.*running database server'):
        Study(server.url.replace(str(server.port), '1'), 'search', {})


def test_a_worker_suspended_in_a_transaction_keeps_nobody(server, monkeypatch):
    monkeypatch.setattr(database, 'LONGEST_IDLE', 2)
    Study(server.url, 'suspended', {})
    # What a stopped process leaves: a transaction that is begun and goes no further.
    engine = create_engine(server.url, connect_args=database._connection_of(server.url))
    with engine.connect() as stopped:
        stopped.execute(text('select * from studies for update'))
        start = time.monotonic()
        assert Study(server.url, 'suspended', {}).claim(3).number == 0
        assert 1 < time.monotonic() - start < 60
        with pytest.raises(database.AWAY):  # as it learns when it goes on
            stopped.execute(text('select 1'))


def test_options_of_the_address_stay():
    mine = 'postgresql+psycopg://h/d?options=-c%20statement_timeout%3D5'
    assert database._connection_of(mine) == {}
    assert database._connection_of('mysql://h/d') == {}
