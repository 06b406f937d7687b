"""Every tool killed at random moments and run again: it ends as if nothing had been."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from command_lines import Job, make_job, run_here, table, trials

from mmcompress.report import load_results
from mmcompress.study import study

pytestmark = pytest.mark.slow

KILLS = 8
SEED = 0

# Forked from a server that has imported all: a kill costs no start of Python.
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(
    ['mmpretrain', 'mmcompress.openmmlab.pipeline.run', 'mmcompress.exporter.export',
     'sklearn.datasets', 'scipy.optimize', 'onnxruntime', 'command_lines'])

@dataclass(frozen=True)
class Subject:
    """A command that is killed.

    Args:
        tool (str): Its name.
        result (Callable): From its work dir to what must be equal.
        settings (tuple[str, ...]): Changes of the config.
        words (tuple[str, ...]): Further options.
    """

    tool: str
    result: Callable[[Path], Any]
    settings: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


def searched(folder: Path) -> Any:
    states = [state for _, state in trials(folder)]
    policies = {path.name: path.read_text()
                for path in (folder / 'policies').glob('*.json')}
    return states.count('COMPLETE'), table(folder), policies


def priced(folder: Path) -> Any:
    prices = {path.name: path.read_bytes() for path in folder.glob('prices/**/*.npy')}
    assert prices
    return searched(folder), prices


def trained(folder: Path) -> Any:
    newest = torch.load(folder / 'epoch_3.pth', weights_only=False)
    return newest['meta']['epoch'], list(newest['state_dict'])


def exported(folder: Path) -> Any:
    network = onnx.load(folder / 'net.onnx')
    onnx.checker.check_model(network)
    return network.SerializeToString()


def compressed(folder: Path) -> Any:
    return [(row.network, row.stage, row.metric, row.size_bytes)
            for row in load_results(folder).rows]


FEW = ('search_cfg.evaluator.images=50', 'search_cfg.evaluator.calibration_images=20')
SUBJECTS = dict(
    search=Subject('search', searched, FEW),
    prices=Subject('search', priced, (
        *FEW, 'search_cfg.searcher.type=TwoStage', 'search_cfg.prices.images=100',
        'search_cfg.searcher.evaluations=3')),
    training=Subject('train', trained, ('train_cfg.max_epochs=3',), ('--resume',)),
    export=Subject('export', exported),
    compress=Subject('compress', compressed, (
        *FEW, 'search_cfg.searcher.evaluations=3', 'compress_cfg.repeats=3'),
        ('--epochs', '0')))


@pytest.fixture(scope='module')
def small(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A trained ResNet-8."""
    return make_job(tmp_path_factory.mktemp('job'))


def run(subject: Subject, job: Job, folder: Path) -> None:
    """Run the command, in a process of its own."""
    os.dup2(os.open(folder.with_suffix('.log'), os.O_CREAT | os.O_WRONLY | os.O_APPEND),
            1)
    os.dup2(1, 2)
    study.DEATHS = 99  # The policies are not to blame.
    files = [job.checkpoint, '--out', folder / 'net.onnx'] \
        if subject.tool == 'export' else []
    ended = run_here(
        subject.tool, job.config, *files, '--work-dir', folder, *subject.words,
        '--cfg-options', 'randomness.seed=0', *subject.settings, cwd=job.folder)
    print(ended, flush=True)
    os._exit(ended.code)


def start(*args: object) -> multiprocessing.Process:
    process = CONTEXT.Process(target=run, args=args)
    process.start()
    return process


@pytest.mark.parametrize('name', SUBJECTS)
def test_killed_again_and_again(name: str, small: Job, tmp_path: Path) -> None:
    subject, rng = SUBJECTS[name], random.Random(f'{SEED} {name}')
    whole, folder = tmp_path / 'whole', tmp_path / 'killed'
    begin = time.monotonic()
    process = start(subject, small, whole)
    process.join(300)
    assert process.exitcode == 0, whole.with_suffix('.log').read_text()[-2000:]
    seconds, expected = time.monotonic() - begin, subject.result(whole)
    kills = 0
    while kills < KILLS or process.exitcode:
        process = start(subject, small, folder)
        # Short ones reach the end in several steps; the last one is not killed.
        process.join(rng.uniform(0.1, 0.7) * seconds if kills < KILLS else 300)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
            assert kills <= KILLS, 'it does not end'
            continue
        assert process.exitcode == 0, folder.with_suffix('.log').read_text()[-2000:]
        assert subject.result(folder) == expected
        left = [path for path in folder.rglob('.*.????????*') if path.is_file()]
        assert not left
        if kills < KILLS:
            shutil.rmtree(folder)
