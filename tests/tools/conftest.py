"""A tiny classifier, trained and searched once for all tests of the tools."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from command_lines import Ended, Job, make_job, run_here


@pytest.fixture(scope='session')
def tool() -> Callable[..., Ended]:
    """See :func:`run_here`."""
    return run_here


@pytest.fixture(scope='session')
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A ResNet-8 trained on 500 handwritten digits by tools/train.py."""
    return make_job(tmp_path_factory.mktemp('job'))


@pytest.fixture(scope='session')
def searched(job: Job) -> Path:
    """The work dir of a finished search.

    Not the one that tools choose by themselves: they add to the table of what they find
    there, and the tests of other files run them.
    """
    work_dir = job.folder / 'searched'
    ended = run_here('search', job.config, '--work-dir', work_dir, cwd=job.folder)
    assert ended.code == 0, ended
    return work_dir
