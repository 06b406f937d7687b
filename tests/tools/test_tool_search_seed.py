"""tools/search.py with a config that names no seed: the study keeps it."""

import csv
import json
import re
import sqlite3
from pathlib import Path

import pytest
from command_lines import (
    Job,
    run_apart,
    search_and_kill,
    start_together,
    table,
    trials,
)

POLICIES = ('macs_0.75.json', 'macs_0.5.json')


@pytest.fixture(scope='module')
def unseeded(job: Job) -> Path:
    """The config of the job as mmpretrain's default runtime has it: without a seed."""
    config = job.folder / 'unseeded.py'
    config.write_text(
        f'_base_ = {str(job.config)!r}\nrandomness = dict(seed=None)\n')
    return config


@pytest.fixture(scope='module')
def found(tool, job: Job, unseeded: Path) -> Path:
    """The work dir of a finished search without a seed."""
    ended = tool('search', unseeded, cwd=job.folder)
    assert ended.code == 0, ended
    return job.folder / 'work_dirs/unseeded'


def seeds(work_dir: Path) -> list[int]:
    """The seed of every run in a work dir, as its log says."""
    logs = sorted(work_dir.glob('*/*.log'))
    found = [re.findall(r'Seed (\d+), of the study', p.read_text()) for p in logs]
    assert all(len(line) == 1 for line in found), found
    return [int(seed) for seed, in found]


def same_results(one: Path, other: Path) -> None:
    """The same table and the same policy files."""
    assert table(one) == table(other)
    for name in POLICIES:
        assert (one / 'policies' / name).read_text() == \
            (other / 'policies' / name).read_text()


def test_run_again_it_continues(tool, job: Job, unseeded: Path, found: Path) -> None:
    before = (found / 'tradeoff.csv').read_text()
    assert tool('search', unseeded, cwd=job.folder).code == 0
    assert (found / 'tradeoff.csv').read_text() == before
    assert len(trials(found)) == 12
    ended = tool('search', unseeded, '--target', 'macs=0.8', cwd=job.folder)
    assert ended.code == 0, ended
    assert (found / 'policies/macs_0.8.json').is_file()
    ended = tool('search', unseeded, '--test', cwd=job.folder)
    assert ended.code == 0, ended
    with open(found / 'tradeoff.csv', newline='') as file:
        assert all(row['test'] for row in csv.DictReader(file))
    assert len(trials(found)) == 12 and len(set(seeds(found))) == 1
    # The tests have the study's seed as well.
    logs = list((found / 'test').rglob('*.log'))
    assert logs
    for log in logs:
        assert f'seed: {seeds(found)[0]}' in log.read_text()


def test_another_seed_is_refused(tool, job: Job, unseeded: Path, found: Path) -> None:
    ended = tool('search', unseeded, '--work-dir', found, '--cfg-options',
                 'randomness.seed=2147483648', cwd=job.folder)
    assert ended.code == 1
    assert re.search(r'belongs to another search. It differs in: searcher.seed '
                     r'\(study: \d+, now: 2147483648\)', ended.message)


@pytest.mark.slow
def test_killed_and_run_again_ends_as_if_seeded(
        tool, job: Job, unseeded: Path, tmp_path: Path) -> None:
    killed, whole = tmp_path / 'killed', tmp_path / 'whole'
    search_and_kill(unseeded, killed, cwd=job.folder)
    again = run_apart('search', unseeded, '--work-dir', killed, cwd=job.folder)
    assert again.returncode == 0, again.stderr
    assert 'Search [5/12]' not in again.stdout
    first, second = seeds(killed)
    assert first == second
    ended = tool('search', unseeded, '--work-dir', whole, '--cfg-options',
                 f'randomness.seed={first}', cwd=job.folder)
    assert ended.code == 0, ended
    same_results(killed, whole)


@pytest.mark.slow
def test_a_study_from_before_goes_on(
        tool, job: Job, unseeded: Path, searched: Path, tmp_path: Path) -> None:
    # A config with a seed leaves what earlier versions left of one without: the
    # seed in the signature, and nothing else about it.
    search_and_kill(job.config, tmp_path, cwd=job.folder)
    with sqlite3.connect(tmp_path / 'search.db') as base:
        assert base.execute('select study_name from studies').fetchall() == \
            [('search',)]
    ended = tool('search', unseeded, '--work-dir', tmp_path, cwd=job.folder)
    assert ended.code == 0, ended
    same_results(tmp_path, searched)


@pytest.mark.slow
def test_two_workers_agree(
        job: Job, unseeded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A run writes its config, with the seed, into the work dir: not over this one.
    config, work_dir = start_together(unseeded, tmp_path), tmp_path / 'work'
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    done = run_apart('search', config, '--work-dir', work_dir, '--workers', 2,
                     cwd=job.folder)
    assert done.returncode == 0, done.stderr
    assert [state for _, state in trials(work_dir)].count('COMPLETE') == 12
    with sqlite3.connect(work_dir / 'search.db') as base:
        values = base.execute(
            "select value_json from trial_user_attributes where key = 'worker'")
        assert len({json.loads(value)['pid'] for value, in values}) == 2
    first, second = seeds(work_dir)
    assert first == second
