"""Files that are complete or not there."""

import errno
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

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


WRITER = """
import sys, time
from mmcompress.files import replacing
with replacing(sys.argv[1]) as temporary:
    print(temporary.name, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_writer_left_is_swept_by_the_next(path):
    writers = [subprocess.Popen(
        [sys.executable, '-c', WRITER, path], stdout=subprocess.PIPE, text=True)
        for _ in range(2)]
    left, living = (writer.stdout.readline().strip() for writer in writers)
    writers[0].kill()
    assert writers[0].wait() == -signal.SIGKILL
    names = {path.name, '.file.notes.json'}
    path.with_name('.file.notes.json').touch()  # not of ours
    assert {p.name for p in path.parent.iterdir()} == {*names, left, living}
    write_text(path, 'new')
    assert {p.name for p in path.parent.iterdir()} == {*names, living}
    writers[1].kill()
    for writer in writers:
        writer.communicate()


WRITERS = dict(
    torch=lambda path: torch.save(torch.zeros(1 << 21), path),
    numpy=lambda path: np.save(path, np.zeros(1 << 21)),
    text=lambda path: path.write_text('0' * (1 << 23)))


@pytest.mark.parametrize('write', WRITERS)
def test_a_full_disk_is_named(write, small_disk):
    path = write_text(small_disk / 'kept.npy', 'old')
    with pytest.raises(OSError, match=r'No space left on device.*kept\.npy') as error, \
            replacing(path) as temporary:
        WRITERS[write](temporary)
    assert error.value.errno == errno.ENOSPC
    assert path.read_text() == 'old' and list(small_disk.iterdir()) == [path]
