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
    data loader are seeded for every epoch, unless they persist over epochs. A training
    that counts iterations is seeded in each of them; mmengine skips the images that it
    has seen, whose augmentation is repeated only by workers (``num_workers`` above 0).
    """

    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed python's, NumPy's and torch's generators, and those of workers."""
        own = _seed(runner.seed, runner.epoch, get_rank())
        start = runner.train_dataloader.worker_init_fn
        if isinstance(start, partial) and 'seed' in start.keywords:
            start.keywords['seed'] = own // 2  # leaves room for a worker's number

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Seed the generators where nothing else tells of epochs."""
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            _seed(runner.seed, runner.iter, get_rank())


def _seed(*numbers: int) -> int:
    python, numpy, own = np.random.SeedSequence(numbers).generate_state(3).tolist()
    random.seed(python)
    np.random.seed(numpy)
    torch.manual_seed(own)
    return own
