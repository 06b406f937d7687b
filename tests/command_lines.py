"""Running the command lines, and a tiny job to run them on."""

from __future__ import annotations

import csv
import json
import os
import pickle
import runpy
import signal
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

REPO = Path(__file__).resolve().parents[1]
BATCHES = [*(f'data_batch_{i}' for i in range(1, 6)), 'test_batch']
IMAGES = 100
"""Images in each of CIFAR-10's six files."""

CONFIG = """
_base_ = {base!r}

model = dict(backbone=dict(depth=8))
data = dict(data_root={data!r})
train_dataloader = dict(batch_size=25, dataset=data)
val_dataloader = dict(dataset=data)
test_dataloader = dict(dataset=data)
load_from = {load_from!r}

optim_wrapper = dict(optimizer=dict(lr=0.05))
default_hooks = dict(logger=dict(interval=5))

compression = dict(
    input_shape=(3, 32, 32),
    channel=dict(type='ChannelMutator', importance='l2', divisor=2),
    # What is written is what was scored, in the closed form.
    reconstruct=dict(sequential=False, norm_images=40))
search_cfg = dict(
    searcher=dict(type='Evolution', evaluations=12),
    evaluator=dict(
        metric='accuracy/top1', images=200, calibration_images=40, batch_size=50),
    targets=dict(macs=[0.75, 0.5]))
"""


@dataclass(frozen=True)
class Ended:
    """How a tool ended.

    Args:
        code (int): Exit status.
        message (str): What it said at its end, if it failed.
    """

    code: int
    message: str


@dataclass(frozen=True)
class Job:
    """A config with its trained checkpoint.

    Args:
        config (Path): Config of the dense model, with a search_cfg.
        checkpoint (Path): Its weights.
        folder (Path): Where both lie, and the place to run from.
    """

    config: Path
    checkpoint: Path
    folder: Path


def write_images(folder: Path) -> None:
    """Write scikit-learn's handwritten digits as CIFAR-10's files."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    small = (bunch.images * 15).astype(np.uint8)
    images = np.kron(small, np.ones((1, 4, 4), np.uint8)).reshape(-1, 1, 1024)
    images = images.repeat(3, 1).reshape(-1, 3072)
    folder = folder / 'cifar-10-batches-py'
    folder.mkdir()
    for i, name in enumerate(BATCHES):
        own = slice(i * IMAGES, (i + 1) * IMAGES)
        data = dict(data=images[own], labels=bunch.target[own].tolist())
        (folder / name).write_bytes(pickle.dumps(data))


def run_here(name: str, *args: object, cwd: Path) -> Ended:
    """Run a tool in this process, which has imported everything already."""
    argv, sys.argv = sys.argv, [name, *map(str, args)]
    before = Path.cwd()
    os.chdir(cwd)
    try:
        runpy.run_path(str(REPO / f'tools/{name}.py'), run_name='__main__')
    except SystemExit as end:
        text = isinstance(end.code, str)
        return Ended(1 if text else int(end.code or 0), end.code if text else '')
    finally:
        sys.argv = argv
        os.chdir(before)
    return Ended(0, '')


def make_job(folder: Path) -> Job:
    """A ResNet-8 trained on 500 handwritten digits by tools/train.py."""
    write_images(folder)
    config, checkpoint = folder / 'tiny.py', folder / 'dense/epoch_5.pth'
    config.write_text(CONFIG.format(
        base=str(REPO / 'configs/cifar/resnet20_cifar10.py'), data=str(folder),
        load_from=str(checkpoint)))
    ended = run_here(
        'train', config, '--work-dir', folder / 'dense', '--cfg-options',
        'load_from=None', 'train_cfg.max_epochs=5', cwd=folder)
    assert ended.code == 0 and checkpoint.is_file(), ended
    return Job(config, checkpoint, folder)


def command(name: str, *args: object) -> list[str]:
    """The words of a tool's command line."""
    return [sys.executable, '-W', 'ignore', str(REPO / f'tools/{name}.py'),
            *map(str, args)]


def environment() -> dict[str, str]:
    """One thread, and the package of this tree."""
    path = [str(REPO), os.environ.get('PYTHONPATH', '')]
    return {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.pathsep.join(path)}


def run_apart(name: str, *args: object, cwd: Path) -> subprocess.CompletedProcess:
    """Run a tool as users do, in a process of its own."""
    return subprocess.run(
        command(name, *args), cwd=cwd, env=environment(), capture_output=True,
        text=True, timeout=300)


def metrics_of(path: Path) -> dict[str, float]:
    """What tools/test.py wrote to --out."""
    return json.loads(path.read_text())


# From the issue that asked for the file.
COLUMNS = ['target', 'policy', 'macs', 'macs_ratio', 'params', 'bops', 'size_bytes',
           'latency_ms', 'score', 'dense_score']


def table(work_dir: Path) -> list[dict[str, str]]:
    """The rows of tradeoff.csv."""
    with open(work_dir / 'tradeoff.csv', newline='') as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert reader.fieldnames == COLUMNS
    return rows


def trials(work_dir: Path) -> list[tuple[int, str]]:
    """Number and state of every trial of the study, read without mmcompress."""
    with sqlite3.connect(work_dir / 'search.db') as base:
        return base.execute(
            'select number, state from trials join studies using (study_id) '
            "where study_name = 'search'").fetchall()


def search_and_kill(config: Path, work_dir: Path, cwd: Path) -> None:
    """Run a search of 12 evaluations and kill it after the fifth."""
    child = subprocess.Popen(
        command('search', config, '--work-dir', work_dir), cwd=cwd, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in child.stdout:
        if 'Search [5/12]' in line:
            os.kill(child.pid, signal.SIGKILL)
            break
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    done = [state for _, state in trials(work_dir)].count('COMPLETE')
    assert 5 <= done < 12
    assert not (work_dir / 'tradeoff.csv').exists()


START_TOGETHER = """
import os, time
from pathlib import Path
from mmengine.hooks import Hook
from mmcompress.registry import HOOKS

@HOOKS.register_module()
class StartTogether(Hook):
    def before_search(self, runner, loop):
        folder = Path(runner.work_dir)
        (folder / f'ready_{os.getpid()}').touch()
        end = time.monotonic() + 120
        while len(list(folder.glob('ready_*'))) < 2:
            assert time.monotonic() < end, 'the other worker did not come'
            time.sleep(0.05)
"""


def start_together(base: Path, folder: Path) -> Path:
    """A config whose two workers wait for each other; needs ``folder`` in the path.

    The first one imports nothing anew and could be done before the other begins.
    """
    (folder / 'start_together.py').write_text(START_TOGETHER)
    config = folder / 'together.py'
    config.write_text(
        f"_base_ = {str(base)!r}\n"
        "custom_imports = dict(imports=['start_together'])\n"
        "search_cfg = dict(custom_hooks=[dict(type='mmcompress.StartTogether')])\n")
    return config
