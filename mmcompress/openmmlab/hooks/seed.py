"""Makes a run that is resumed at an epoch equal to one that never stopped."""

from __future__ import annotations

import random

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...registry import HOOKS


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seeds the global generators by seed, epoch and rank at the start of each epoch.

    mmengine's checkpoints hold no state of random generators, so augmentation and
    dropout of a resumed run differ from those of an uninterrupted one. Workers of the
    data loader are seeded by the same generators, unless they persist over epochs.
    """

    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed python's, NumPy's and torch's generators."""
        sequence = np.random.SeedSequence([runner.seed, runner.epoch, get_rank()])
        python, numpy, own = sequence.generate_state(3).tolist()
        random.seed(python)
        np.random.seed(numpy)
        torch.manual_seed(own)
