"""Databases: servers that go away, odd work dirs, passwords, WAL."""

from __future__ import annotations

import logging
import sqlite3
import threading
from pathlib import Path

import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import OperationalError

from mmcompress.errors import StudyError
from mmcompress.policy import Policy
from mmcompress.searchers import Evaluated
from mmcompress.study import Claim, Study, database
from mmcompress.study.storage import concealed, open_storage, placed, shown

POLICY = Policy({'stem': 8})


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A study with one evaluation, as patient as with a server."""
    study = Study(f'sqlite:///{tmp_path}/search.db', 'search', {})
    study._storage._patience = 5
    assert finish(study, study.claim(9))
    return study


def finish(study: Study, claim: Claim) -> bool:
    study.record_policy(claim, POLICY)
    return study.finish(claim, Evaluated(claim.number, POLICY, 0.5, {}))


def cut() -> StorageInternalError:
    """What Optuna raises where the connection is cut."""
    error = StorageInternalError('An exception is raised during the commit.')
    error.__cause__ = OperationalError(
        'SELECT 1', {}, Exception('server closed the connection unexpectedly'))
    return error


def cut_once(patch: pytest.MonkeyPatch, name: str, done: bool) -> None:
    """The first call of a method fails, before it has done its work or after."""
    method, calls = getattr(RDBStorage, name), []

    def failing(*args, **options):
        # Heartbeats of claims that other tests have left come from other threads.
        if threading.current_thread() is not threading.main_thread():
            return method(*args, **options)
        calls.append(name)
        if len(calls) == 1:
            if done:
                method(*args, **options)
            raise cut()
        return method(*args, **options)

    patch.setattr(RDBStorage, name, failing)


# -- a server that goes away ---------------------------------------------------
@pytest.mark.parametrize('done', [False, True])
@pytest.mark.parametrize('method', [
    '_create_new_trial', '_get_trials', 'set_trial_user_attr',
    'set_trial_state_values'])
def test_a_cut_connection_costs_nothing(method, done, study, monkeypatch, caplog):
    cut_once(monkeypatch, method, done)
    with caplog.at_level(logging.WARNING, 'mmcompress'):
        for _ in range(8):
            assert finish(study, study.claim(9))
    assert 'does not answer' in caplog.text and 'server closed' in caplog.text
    assert 'seemed dead' not in caplog.text
    assert [e.number for e in study.history()] == list(range(9))
    assert study.claim(9) is None and study.running() == []


def test_a_server_that_stays_away_ends_in_a_sentence(study, monkeypatch):
    def fail(*_, **__):
        raise cut()

    monkeypatch.setattr(RDBStorage, '_get_trials', fail)
    study._storage._patience = 3
    with pytest.raises(StudyError, match=(
            r"storage '.*search\.db' failed: .*server closed the connection.*"
            'run the same command again')):
        study.history()


def test_mistakes_are_not_repeated(study):
    with pytest.raises(KeyError):
        study._storage.get_study_id_from_name('another')


def test_servers_are_pinged(monkeypatch):
    monkeypatch.setattr(database, 'RDBStorage', lambda url, engine_kwargs: (
        pytest.fail('no ping') if not engine_kwargs.get('pool_pre_ping') else
        RDBStorage('sqlite://')))
    assert database.open_database('postgresql://host/base', 'x')._patience == 30


# -- files ---------------------------------------------------------------------
@pytest.mark.parametrize('name', [
    'what?', '100%', 'a%20b', 'no#1', 'two words', 'a&b=c', 'Köln'])
@pytest.mark.parametrize('scheme', ['sqlite', 'journal'])
def test_the_database_is_where_the_work_dir_is(scheme, name, tmp_path):
    url = placed(f'{scheme}:///search.db', tmp_path / name)
    study = Study(url, 'search', {})
    assert finish(study, study.claim(2))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / 'search.db').is_file()
    assert len(Study(url, 'search', {}).history()) == 1


def test_options_behind_the_name_of_a_file_are_refused(tmp_path):
    with pytest.raises(StudyError, match='question mark'):
        placed('sqlite:///search.db?timeout=9', tmp_path)


def journal_mode(path: Path) -> str:
    with sqlite3.connect(path) as base:
        return base.execute('PRAGMA journal_mode').fetchone()[0]


def test_wal_where_the_file_system_allows_it(tmp_path, monkeypatch):
    path = tmp_path / 'search.db'
    for local, mode in ((True, 'wal'), (False, 'delete')):
        monkeypatch.setattr(database, '_is_local', lambda _, local=local: local)
        study = Study(f'sqlite:///{path}', 'search', {})
        finish(study, study.claim(2))
        assert journal_mode(path) == mode
        study._storage._storage._backend.engine.dispose()


@pytest.mark.parametrize('reason', [
    'attempt to write a readonly database', 'database or disk is full'])
def test_a_disk_that_takes_nothing_ends_in_a_sentence(reason, study, monkeypatch):
    def fail(*_, **__):
        raise StorageInternalError('commit') from OperationalError(
            'INSERT', {}, sqlite3.OperationalError(reason))

    study._storage._patience = 1
    claim = study.claim(9)
    monkeypatch.setattr(RDBStorage, 'set_trial_user_attr', fail)
    with pytest.raises(StudyError, match=f'{reason}.*What was recorded is safe'):
        study.record_policy(claim, POLICY)


# -- passwords -----------------------------------------------------------------
@pytest.mark.parametrize('url', [
    'postgresql://me:secret@host/db', 'postgresql://:secret@host/db',
    'postgresql://me:se:cr/et@host/db', 'postgresql://me:s@ecret@host:5432/db',
    'postgresql://host/db?user=me&password=secret'])
def test_no_part_of_a_password_is_shown(url):
    text = shown(url)
    assert '***' in text and 'host' in text
    assert 'ecr' not in text and 'et@' not in text
    assert shown(text) == text


def test_a_concealed_url_opens_the_same_storage(monkeypatch):
    opened = []
    monkeypatch.setattr(
        'mmcompress.study.storage.open_database', lambda url, _: opened.append(url))
    url = 'postgresql://me:secret@host/db'
    assert concealed(concealed(url)) == shown(url)
    open_storage(shown(url))
    assert opened == [url]


def test_messages_of_libraries_do_not_show_it():
    with pytest.raises(StudyError) as error:
        open_storage('postgresql://me:secret@host:port/db')  # not a number
    assert 'secret' not in str(error.value)
