"""A tiny classifier, trained and searched once for all tests of the tools."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from command_lines import CONFIG, REPO, Ended, Job, run_here, write_images


@pytest.fixture(scope='session')
def tool() -> Callable[..., Ended]:
    """See :func:`run_here`."""
    return run_here


@pytest.fixture(scope='session')
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A ResNet-8 trained on 500 handwritten digits by tools/train.py."""
    folder = tmp_path_factory.mktemp('job')
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


@pytest.fixture(scope='session')
def searched(job: Job) -> Path:
    """The work dir of a finished search."""
    ended = run_here('search', job.config, cwd=job.folder)
    assert ended.code == 0, ended
    return job.folder / 'work_dirs/tiny'
