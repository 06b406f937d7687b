"""A search loop over a small classifier and images made up in memory."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmcompress.openmmlab.cli import search_runner
from mmcompress.openmmlab.loops.search import PolicySearchLoop
from mmcompress.testing.small_classifier import small_classifier


def _make(
    work_dir: Path, randomness: dict | None = None, **search
) -> PolicySearchLoop:
    init_default_scope('mmpretrain')
    dataset = dict(type='mmcompress.TwoClasses', images=80,
                   pipeline=[dict(type='PackInputs')])
    loader = dict(batch_size=10, num_workers=0, dataset=dataset)
    search = dict(
        dict(evaluator=dict(
            metric='accuracy/top1', images=40, calibration_images=10),
            save_checkpoints=False), **search)
    cfg = Config(dict(
        **small_classifier(),
        train_dataloader=loader, test_dataloader=loader,
        val_evaluator=dict(type='Accuracy', topk=(1,)),
        compression=dict(input_shape=(3, 8, 8), channel=dict(divisor=1)),
        randomness=randomness or dict(seed=0), search_cfg=search,
        work_dir=str(work_dir), default_scope='mmpretrain',
        experiment_name=work_dir.name))
    return PolicySearchLoop(search_runner(cfg), **search)


@pytest.fixture(scope='session')
def make_loop() -> Callable[..., PolicySearchLoop]:
    """``make_loop(work_dir, randomness=dict(seed=0), **search_cfg)``."""
    return _make
