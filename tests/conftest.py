"""Fixtures that every test may use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from mmengine.registry import DefaultScope

import mmcompress  # noqa: F401  (declares torchvision's operators where needed)

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session')
def repo() -> Path:
    """Root of the repository."""
    return REPO


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """Folder of the real weights and images; the test is skipped without it."""
    path = Path(os.environ.get('MMCOMPRESS_DATA', REPO.parent / 'shared' / 'data'))
    if not path.is_dir():
        pytest.skip(f'no real data at {path}; set MMCOMPRESS_DATA')
    return path


@pytest.fixture(autouse=True)
def no_default_scope() -> Iterator[None]:
    """Let no test depend on the default scope that another one has set."""
    scopes = DefaultScope._instance_dict
    before = dict(scopes)
    yield
    scopes.clear()
    scopes.update(before)
