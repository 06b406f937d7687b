"""tools/search.py, from a config to the family of policies."""

import csv
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
from functools import partial
from pathlib import Path

import psutil
import pytest
from command_lines import (
    COLUMNS,
    Job,
    command,
    environment,
    run_apart,
    search_and_kill,
    start_together,
    table,
    trials,
)


def test_files(searched: Path) -> None:
    for name in ('tradeoff.png', 'report.html', 'search.db', 'policies/macs_0.75.json',
                 'policies/macs_0.75.pth', 'policies/macs_0.5.json'):
        assert (searched / name).stat().st_size > 0, name
    rows = table(searched)
    assert [row['target'] for row in rows] == ['dense', 'macs_0.75', 'macs_0.5']
    assert rows[0]['policy'] == '' and rows[0]['latency_ms'] == ''
    dense = float(rows[0]['macs'])
    for row, budget in zip(rows[1:], (0.75, 0.5)):
        assert row['policy'] == f'{row["target"]}.json'
        assert 0.3 < float(row['macs_ratio']) <= budget
        assert float(row['macs']) / dense == pytest.approx(float(row['macs_ratio']))
        facts = json.loads((searched / 'policies' / row['policy']).read_text())['facts']
        assert facts['score'] == float(row['score'])
        assert facts['costs']['macs'] == float(row['macs'])
    # Trained on ten classes: far above chance, or the scores would say nothing.
    assert float(rows[0]['score']) > 30


def test_log_has_every_evaluation(searched: Path) -> None:
    text = ''.join(p.read_text() for p in searched.glob('*/*.log'))
    numbers = re.findall(r'Search \[(\d+)/12\] score', text)
    assert numbers == [str(i) for i in range(1, 13)]
    assert 'Trade-off' in text and 'channel units govern' in text


def test_nothing_temporary_is_left(searched: Path) -> None:
    files = [p.name for p in searched.rglob('*') if p.is_file()]
    assert not [name for name in files if name.startswith('.') or '.tmp' in name]


def test_again_adds_nothing(tool, job: Job, searched: Path) -> None:
    before = (searched / 'tradeoff.csv').read_text()
    assert tool('search', job.config, '--work-dir', searched, cwd=job.folder).code == 0
    assert (searched / 'tradeoff.csv').read_text() == before
    assert len(trials(searched)) == 12


def test_options_of_the_command_line(tool, job: Job, tmp_path: Path) -> None:
    ended = tool(
        'search', job.config, '--work-dir', tmp_path / 'mine', '--resume',
        '--cfg-options', 'search_cfg.searcher.evaluations=3',
        'search_cfg.targets.macs=[0.6]', cwd=job.folder)
    assert ended.code == 0
    assert [r['target'] for r in table(tmp_path / 'mine')] == ['dense', 'macs_0.6']
    assert len(trials(tmp_path / 'mine')) == 3


@pytest.mark.slow
def test_killed_and_run_again_ends_the_same(
        job: Job, searched: Path, tmp_path: Path) -> None:
    search_and_kill(job.config, tmp_path, cwd=job.folder)
    again = run_apart('search', job.config, '--work-dir', tmp_path, cwd=job.folder)
    assert again.returncode == 0, again.stderr
    assert f'Search [{5}/12]' not in again.stdout
    assert table(tmp_path) == table(searched)
    for name in ('macs_0.75.json', 'macs_0.5.json'):
        assert (tmp_path / 'policies' / name).read_text() == (
            searched / 'policies' / name).read_text()


@pytest.mark.slow
def test_interrupted_says_how_to_continue(job: Job, tmp_path: Path) -> None:
    # A test run in the background would hand down that interrupts are ignored.
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    child = subprocess.Popen(
        command('search', job.config, '--work-dir', tmp_path), cwd=job.folder,
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=listen)
    for line in child.stdout:
        if 'Search [2/12]' in line:
            child.send_signal(signal.SIGINT)
            break
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 130
    assert 'Run the same command again to continue' in errors
    assert 'Traceback' not in errors


@pytest.mark.slow
def test_two_workers_split_the_evaluations(
        job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = start_together(job.config, tmp_path)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    done = run_apart(
        'search', config, '--work-dir', tmp_path, '--workers', 2, '--cfg-options',
        'search_cfg.searcher.evaluations=24', cwd=job.folder)
    assert done.returncode == 0, done.stderr
    states = [state for _, state in trials(tmp_path)]
    assert states.count('COMPLETE') == 24
    with sqlite3.connect(tmp_path / 'search.db') as base:
        values = base.execute(
            "select value_json from trial_user_attributes where key = 'worker'")
        workers = [json.loads(value)['pid'] for value, in values]
    assert len(set(workers)) == 2
    logs = sorted(tmp_path.glob('*/*.log'))
    assert len(logs) == 2
    scored = re.findall(r'Search \[(\d+)/24\]', ''.join(p.read_text() for p in logs))
    assert sorted(map(int, scored)) == list(range(1, 25))
    assert [row['target'] for row in table(tmp_path)] == [
        'dense', 'macs_0.75', 'macs_0.5']


@pytest.mark.slow
def test_a_helper_that_is_killed_is_said_and_its_share_is_done(
        job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = start_together(job.config, tmp_path)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    main = subprocess.Popen(
        command('search', config, '--work-dir', tmp_path, '--workers', 2),
        cwd=job.folder, env=environment(), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True)
    said = []
    for line in main.stdout:
        said.append(line)
        if 'Search [' in line and 'killed' not in said:
            said.append('killed')
            helper, = psutil.Process(main.pid).children()
            helper.kill()  # a zombie from now on: it is waited for at the end
    assert main.wait(timeout=120) == 0
    assert 'Workers ended with exit codes [-9]' in ''.join(said)
    assert [state for _, state in trials(tmp_path)].count('COMPLETE') == 12


@pytest.mark.slow
def test_two_processes_search_one_ranking_though_one_is_killed(
        job: Job, tmp_path: Path) -> None:
    words = command(
        'search', job.config, '--work-dir', tmp_path, '--cfg-options',
        'search_cfg.searcher.type=LeGR', 'search_cfg.searcher.evaluations=24',
        'search_cfg.searcher.population=6', 'search_cfg.searcher.tournament=2')
    start = partial(subprocess.Popen, words, cwd=job.folder, env=environment(),
                    stderr=subprocess.DEVNULL, text=True)
    one, other = start(stdout=subprocess.PIPE), start(stdout=subprocess.DEVNULL)
    for line in one.stdout:
        if 'Search [' in line:
            os.kill(one.pid, signal.SIGKILL)
            break
    one.stdout.close()
    assert one.wait() == -signal.SIGKILL
    assert other.wait(timeout=120) == 0
    with sqlite3.connect(tmp_path / 'search.db') as base:
        policies = base.execute(
            "select value_json from trial_user_attributes join trials using (trial_id) "
            "where key = 'policy' and state = 'COMPLETE'").fetchall()
    # The looser of the two targets is scored after the search.
    assert len(policies) == len(set(policies)) == 25
    ranking = (tmp_path / 'ranking.json').read_text()
    # A third process, which saw nothing, finds the same ranking in the study.
    again = subprocess.run(words, cwd=job.folder, env=environment(), timeout=120,
                           capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert 'Search [' not in again.stdout
    assert (tmp_path / 'ranking.json').read_text() == ranking


def test_family_on_the_test_set(
    tool, job: Job, searched: Path, tmp_path: Path
) -> None:
    mine = tmp_path / 'mine'
    shutil.copytree(searched, mine)
    options = ('--work-dir', mine, '--test')
    assert tool('search', job.config, *options, cwd=job.folder).code == 0
    with open(mine / 'tradeoff.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*COLUMNS, 'test']
    # As the tool for one network says, for the dense one and a policy.
    out = tmp_path / 'metrics.json'
    for row in (rows[0], rows[2]):
        path, extra = job.checkpoint, ()
        if row['policy']:
            policy = mine / 'policies' / row['policy']
            path, extra = policy.with_suffix('.pth'), ('--policy', policy)
        assert tool('test', job.config, path, *extra, '--out', out,
                    '--work-dir', tmp_path / 'test', cwd=job.folder).code == 0
        assert float(row['test']) == json.loads(out.read_text())['accuracy/top1']
    assert 'test accuracy/top1' in (mine / 'report.html').read_text()
    # What is known is shown and not measured again, with or without the option.
    runs = sorted((mine / 'test').rglob('*.log'))
    for again in (options, options[:2]):
        assert tool('search', job.config, *again, cwd=job.folder).code == 0
        assert sorted((mine / 'test').rglob('*.log')) == runs
        with open(mine / 'tradeoff.csv', newline='') as file:
            assert list(csv.DictReader(file)) == rows


@pytest.mark.parametrize(('options', 'message'), [
    (['--target', 'macs=0.4'], 'tools/test.py'),
    (['--cfg-options', 'search_cfg.save_checkpoints=False'], 'needs checkpoints'),
    (['--cfg-options', 'test_dataloader=None', 'test_cfg=None', 'test_evaluator=None'],
     'no test_dataloader')])
def test_what_cannot_be_tested(
    options: list[str], message: str, tool, job: Job, tmp_path: Path
) -> None:
    ended = tool('search', job.config, '--work-dir', tmp_path / 'mine', '--test',
                 *options, cwd=job.folder)
    assert ended.code != 0 and message in str(ended)
    assert not (tmp_path / 'mine' / 'tradeoff.csv').exists()
