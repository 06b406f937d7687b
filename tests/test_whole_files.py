"""Files that are complete or not there."""

import os

import pytest

from mmcompress.files import replacing, write_bytes, write_text


@pytest.fixture
def path(tmp_path):
    return write_text(tmp_path / 'kept/file.json', 'old')


def test_a_failure_leaves_what_was_there(path, monkeypatch):
    def fail(*_):
        raise OSError('disk full')

    monkeypatch.setattr(os, 'replace', fail)
    for target in (path, path.with_name('other')):
        with pytest.raises(OSError, match='disk full'):
            write_text(target, 'new')
    assert path.read_text() == 'old'
    assert list(path.parent.iterdir()) == [path]


def test_replaced_and_readable_by_all(path):
    write_bytes(path, b'new')
    assert path.read_text() == 'new'
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_the_temporary_name_keeps_the_suffix(path):
    with replacing(path) as temporary:
        assert temporary.suffix == '.json'
        assert path.read_text() == 'old'
