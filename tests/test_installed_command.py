"""The command ``mmcompress`` of an installed wheel, away from the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_lines import CONFIG, REPO, metrics_of, table, write_images

from mmcompress.__main__ import PROGRAMS, file_of, main, usage

SOURCE = ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'LICENSE', 'README.md',
          'requirements', 'configs', 'tools', 'mmcompress')
ONLY_WHEEL = 'import mmcompress; print(mmcompress.__file__)'


@dataclass(frozen=True)
class Installation:
    """A virtual environment with the wheel, and an empty folder to work in.

    Args:
        binaries (Path): The environment's folder of commands.
        folder (Path): Where commands run.
    """

    binaries: Path
    folder: Path

    def __call__(self, *words: object) -> str:
        """Run a command of the environment; returns what it printed."""
        environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'COLUMNS': '100'}
        environment.pop('PYTHONPATH', None)
        done = subprocess.run(
            [self.binaries / str(words[0]), *map(str, words[1:])], cwd=self.folder,
            env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout


def copy_of_source(folder: Path) -> Path:
    """A copy to build from, as a build leaves its files in the tree."""
    leave = shutil.ignore_patterns('__pycache__', '.mim', '*.egg-info')
    for path in (REPO / name for name in SOURCE):
        if path.is_dir():
            shutil.copytree(path, folder / path.name, ignore=leave)
        else:
            folder.mkdir(exist_ok=True)
            shutil.copy(path, folder)
    return folder


def test_a_reader_may_have_seen_enough():
    """As of: mmcompress zoo | head -1."""
    child = subprocess.Popen(
        [sys.executable, '-m', 'mmcompress', 'zoo', '--json'], cwd=REPO,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    child.stdout.close()
    assert child.stderr.read() == '' and child.wait() == 141


@pytest.fixture(scope='module')
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The wheel without its dependencies, which are those of the tests."""
    folder = tmp_path_factory.mktemp('clean')
    pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check']
    subprocess.run(
        [*pip, 'wheel', '--quiet', '--no-deps', '--no-index', '--no-build-isolation',
         '--wheel-dir', str(folder), str(copy_of_source(folder / 'source'))],
        check=True)
    venv = folder / 'venv'
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', venv], check=True)
    packages = next((venv / 'lib').glob('python*')) / 'site-packages'
    # Their own .pth files count, too: from 3.12 on, distutils is one of setuptools.
    (packages / 'tests.pth').write_text(
        f'import site; site.addsitedir({sysconfig.get_path("purelib")!r})')
    wheel = next(folder.glob('*.whl'))
    subprocess.run(
        [*pip, '--python', str(venv / 'bin/python'), 'install', '--quiet', '--no-deps',
         '--no-index', str(wheel)], check=True)
    empty = folder / 'empty'
    empty.mkdir()
    return Installation(venv / 'bin', empty)


def test_every_program_is_there_and_described() -> None:
    for name in PROGRAMS:
        assert file_of(name).is_file()
        assert file_of(name).resolve().parent == REPO / 'tools'
        assert name in usage()


def test_an_unknown_program_is_named(capsys: pytest.CaptureFixture) -> None:
    assert "'serach'" in str(main(['serach']))
    assert main([]) == 2
    assert 'check-zoo' in capsys.readouterr().out


def test_the_package_is_that_of_the_wheel(installation: Installation) -> None:
    path = Path(installation('python', '-c', ONLY_WHEEL).splitlines()[-1])
    assert path.is_relative_to(installation.binaries.parent)


def test_help_names_the_command(installation: Installation) -> None:
    assert 'compress' in installation('mmcompress', '--help')
    assert 'usage: mmcompress search' in installation('mmcompress', 'search', '--help')
    assert 'usage: mmcompress check-zoo' in installation(
        'mmcompress', 'check-zoo', '--help')


def test_the_policies_of_the_wheel_are_listed(installation: Installation) -> None:
    found = json.loads(installation('mmcompress', 'zoo', '--json'))
    wanted = sorted((REPO / 'configs').glob('*/policies/*.json'))
    assert [p['name'] for p in found] == [
        f'{path.parent.parent.name}/{path.stem}' for path in wanted] != []
    for policy, original in zip(found, wanted):
        path = Path(policy['path'])
        assert path.is_relative_to(installation.binaries.parent)
        assert path.read_bytes() == original.read_bytes()
        assert (path.parents[2] / policy['config']).is_file()


@pytest.mark.slow
def test_from_a_config_of_the_wheel_to_a_tested_file(
        installation: Installation) -> None:
    """Trains, searches with two workers, exports, tests and times."""
    folder = installation.folder
    write_images(folder)
    (folder / 'tiny.py').write_text(CONFIG.format(
        base='mmcompress::cifar/resnet20_cifar10.py', data=str(folder),
        load_from='dense/epoch_2.pth'))
    installation(
        'mmcompress', 'train', 'tiny.py', '--work-dir', 'dense', '--cfg-options',
        'load_from=None', 'train_cfg.max_epochs=2')
    installation(
        'mmcompress', 'search', 'tiny.py', '--workers', 2, '--cfg-options',
        'search_cfg.searcher.evaluations=4')
    assert [row['target'] for row in table(folder / 'work_dirs/tiny')] == [
        'dense', 'macs_0.75', 'macs_0.5']
    slim = 'work_dirs/tiny/policies/macs_0.5'
    installation(
        'mmcompress', 'export', 'tiny.py', f'{slim}.pth', '--policy', f'{slim}.json',
        '--out', 'slim.onnx')
    installation(
        'mmcompress', 'test', 'tiny.py', 'slim.onnx', '--backend', 'onnxruntime',
        '--out', 'metrics.json')
    assert metrics_of(folder / 'metrics.json')
    printed = installation('mmcompress', 'benchmark', 'slim.onnx', '--repeats', 3)
    assert 'slim.onnx' in printed
