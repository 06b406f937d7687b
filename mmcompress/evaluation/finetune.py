"""A few SGD steps before a policy is scored."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..data.images import Batch
from ..kinds import kind_of
from ..options import Count, Natural, NotNegative, Positive, Share
from ..registry import check_call


@dataclass(frozen=True)
class Finetuning:
    """How a policy is trained before it is scored (LeGR, CVPR 2020, sec. 4).

    Args:
        steps (int): SGD steps. Defaults to 0: none.
        lr (float): Learning rate. Defaults to 0.01.
        momentum (float): Defaults to 0.9.
        weight_decay (float): Defaults to 5e-4.
        batch_size (int): Images per step. Defaults to 128.
    """

    steps: Natural = 0
    lr: Positive = 0.01
    momentum: Share = 0.9
    weight_decay: NotNegative = 5e-4
    batch_size: Count = 128

    @classmethod
    def read(cls, options: dict | None) -> Finetuning:
        """Read the option of an evaluator.

        Raises:
            CompressionError: Unknown names, or numbers out of range.
        """
        check_call('finetune', options or {}, cls)
        return cls(**(options or {}))


def finetune(
    model: nn.Module, batches: Sequence[Batch], options: Finetuning, seed: int
) -> bool:
    """Train a model in place for a few steps; it is in evaluation mode afterwards.

    Args:
        model (nn.Module): Of a kind that has a loss; physically small.
        batches (Sequence[Batch]): Training batches; taken in turn.
        options (Finetuning): How.
        seed (int): Of dropout and the like; the global generators are left alone.

    Returns:
        bool: False if the loss was not finite; the training then stopped there.
    """
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=options.lr,
        momentum=options.momentum, weight_decay=options.weight_decay)
    model.train()
    try:
        with seeded(seed), torch.enable_grad():
            for step in range(options.steps):
                batch = batches[step % len(batches)]
                loss = kind_of(model).loss(model, batch)
                if not torch.isfinite(loss):
                    return False
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    finally:
        model.eval()
    return True


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators, which augmentations use; restore them after."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
