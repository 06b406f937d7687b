"""Helpers of a search end with it; disks that take nothing; passwords in work dirs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from command_lines import CONFIG, REPO, environment, run_here, write_images
from mmengine.config import Config

from mmcompress.openmmlab.cli import base_parser, load_config
from mmcompress.openmmlab.processes import PARENT, ending_in_order

PARENT_OF_A_HELPER = """
import os, subprocess, sys, time
from mmcompress.openmmlab.processes import PARENT
helper = subprocess.Popen(
    [sys.executable, '-c', sys.argv[1]], env={**os.environ, PARENT: str(os.getpid())})
print(helper.pid, flush=True)
time.sleep(600)
"""

HELPER = """
import time
from mmcompress.openmmlab.cli import run_tool
def main():
    try:
        print('ready', flush=True)
        time.sleep(600)
    finally:
        print('claims given back', flush=True)
run_tool(main)
"""


def test_a_helper_ends_with_the_process_that_started_it():
    parent = subprocess.Popen(
        [sys.executable, '-W', 'ignore', '-c', PARENT_OF_A_HELPER, HELPER],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    helper = psutil.Process(int(parent.stdout.readline()))
    while parent.stdout.readline() != 'ready\n':
        assert helper.is_running()
    parent.kill()
    # Not waited for at once: the helper must not need that.
    text = parent.stdout.read()
    assert 'claims given back' in text and 'Run the same command again' in text
    parent.wait()
    assert not helper.is_running() or helper.status() == psutil.STATUS_ZOMBIE


def test_sigterm_ends_a_tool_in_order():
    tool = subprocess.Popen(
        [sys.executable, '-W', 'ignore', '-c', HELPER], env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while tool.stdout.readline() != 'ready\n':
        assert tool.poll() is None
    tool.terminate()
    text, _ = tool.communicate()
    assert tool.returncode == 128 + signal.SIGTERM
    assert 'claims given back' in text and 'Terminated.' in text
    assert 'Traceback' not in text


def test_a_second_sigterm_does_not_disturb_the_end():
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), ending_in_order():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(9)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == handler


def test_a_helper_knows_its_parent(monkeypatch):
    sys.path.insert(0, str(REPO / 'tools'))
    started = {}
    monkeypatch.setattr(subprocess, 'Popen', lambda words, **options: started.update(
        options['env']))
    try:
        import search
    finally:
        sys.path.pop(0)
    monkeypatch.setattr(sys, 'argv', ['search.py', 'c.py', '--workers', '2'])
    search.start_worker(1)
    assert started[PARENT] == str(os.getpid())


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The config of a tiny classifier, without weights."""
    write_images(tmp_path)
    path = tmp_path / 'tiny.py'
    path.write_text(CONFIG.format(
        base=str(REPO / 'configs/cifar/resnet20_cifar10.py'), data=str(tmp_path),
        load_from=None))
    return path


def options(*words: object) -> object:
    return base_parser('').parse_args(list(map(str, words)))


def test_no_file_of_a_work_dir_holds_a_password(config, tmp_path):
    url = 'postgresql://me:secret@host.invalid/db'
    cfg = load_config(options(
        config, '--work-dir', tmp_path / 'w', '--cfg-options',
        f'search_cfg.storage={url}'))
    assert isinstance(cfg, Config) and 'secret' not in cfg.pretty_text
    ended = run_here(
        'search', config, '--work-dir', tmp_path / 'w', '--cfg-options',
        'randomness.seed=0', f'search_cfg.storage={url}', cwd=tmp_path)
    assert ended.code == 1 and 'me:***@host.invalid' in ended.message, ended
    assert 'secret' not in ended.message
    files = [path for path in (tmp_path / 'w').rglob('*') if path.is_file()]
    assert files and not [p for p in files if b'secret' in p.read_bytes()]


@pytest.mark.parametrize('state', ['read-only', 'full'])
def test_a_disk_that_takes_nothing_is_a_sentence(
        state, config, small_disk, tmp_path, capfd):
    if state == 'full':
        (small_disk / 'filler').write_bytes(
            bytes(os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize))
    else:
        subprocess.run(['mount', '-o', 'remount,ro', str(small_disk)], check=True)
    ended = run_here('search', config, '--work-dir', small_disk / 'w', '--cfg-options',
                     'randomness.seed=0', cwd=tmp_path)
    assert ended.code == 1 and 'work-dir' in ended.message, ended
    reason = 'Read-only file system' if state == 'read-only' else 'No space left'
    assert reason in ended.message
    assert 'Traceback' not in capfd.readouterr().err
    assert not [p for p in (small_disk / 'w').rglob('*')
                if p.is_file() and p.stat().st_size]
