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
        by_iterations = isinstance(runner.train_loop, IterBasedTrainLoop)
        own = self._seed(runner, runner.iter if by_iterations else runner.epoch)
        start = runner.train_dataloader.worker_init_fn
        if isinstance(start, partial) and 'seed' in start.keywords:
            start.keywords['seed'] = own // 2  # leaves room for a worker's number

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Seed the next iteration of a loop that has no epochs; its images, too."""
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            self._seed(runner, runner.iter + 1)

    @staticmethod
    def _seed(runner: Runner, number: int) -> int:
        sequence = np.random.SeedSequence([runner.seed, number, get_rank()])
        python, numpy, own = sequence.generate_state(3).tolist()
        random.seed(python)
        np.random.seed(numpy)
        torch.manual_seed(own)
        return own
