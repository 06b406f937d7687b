"""Makes a training that is resumed equal to one that never stopped."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from ...registry import HOOKS


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seeds the global generators by seed, epoch and rank at the start of each epoch.

    mmengine's checkpoints hold no state of random generators, so augmentation and
    dropout of a resumed run differ from those of an uninterrupted one. Workers of the
    data loader are seeded for every epoch, unless they persist over epochs. Where
    iterations are counted instead, the generators are seeded before each of them, but
    workers begin anew.
    """

    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed python's, NumPy's and torch's generators, and those of workers."""
        own = _seed(runner, 2 * runner.iter if _by_iterations(runner) else runner.epoch)
        start = runner.train_dataloader.worker_init_fn
        if isinstance(start, partial) and 'seed' in start.keywords:
            start.keywords['seed'] = own // 2  # leaves room for a worker's number

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Seed an iteration of a loop that has no epochs, once it has its images."""
        if _by_iterations(runner):
            _seed(runner, 2 * runner.iter + 1)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Seed what the next iteration does to its images."""
        if _by_iterations(runner):
            _seed(runner, 2 * runner.iter + 2)


def _by_iterations(runner: Runner) -> bool:
    return isinstance(runner.train_loop, IterBasedTrainLoop)


def _seed(runner: Runner, number: int) -> int:
    sequence = np.random.SeedSequence([runner.seed, number, get_rank()])
    python, numpy, own = sequence.generate_state(3).tolist()
    random.seed(python)
    np.random.seed(numpy)
    torch.manual_seed(own)
    return own
