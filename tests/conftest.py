"""Fixtures that every test may use."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mmengine.registry import DefaultScope
from networks_in_a_line import Net

import mmcompress  # noqa: F401  (declares torchvision's operators where needed)

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session')
def repo() -> Path:
    """Root of the repository."""
    return REPO


@pytest.fixture
def net() -> type[Net]:
    """See :class:`Net`."""
    return Net


@pytest.fixture(scope='session')
def data_folder() -> Path:
    """Where the real weights and images are, if they are there."""
    return Path(os.environ.get('MMCOMPRESS_DATA', REPO.parent / 'shared' / 'data'))


@pytest.fixture(scope='session')
def shared_data(data_folder: Path) -> Path:
    """Folder of the real weights and images; the test is skipped without it."""
    if not data_folder.is_dir():
        pytest.skip(f'no real data at {data_folder}; set MMCOMPRESS_DATA')
    return data_folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB; the test is skipped by who may not mount one."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', str(folder)]
    if not shutil.which('mount') or \
            subprocess.run(command, capture_output=True).returncode:
        pytest.skip('only root may mount a small file system')
    yield folder
    subprocess.run(['umount', '-l', str(folder)], check=True)


@pytest.fixture(scope='module', autouse=True)
def no_default_scope_of_another_file() -> Iterator[None]:
    """Let no test depend on the default scope that a fixture of a file has set."""
    with _scopes_restored():
        DefaultScope._instance_dict.clear()
        yield


@pytest.fixture(autouse=True)
def no_default_scope() -> Iterator[None]:
    """Let no test depend on the default scope that another one has set."""
    with _scopes_restored():
        yield


@contextmanager
def _scopes_restored() -> Iterator[None]:
    scopes = DefaultScope._instance_dict
    before = dict(scopes)
    yield
    scopes.clear()
    scopes.update(before)
