"""What networks score on the test set of a config."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..errors import CompressionError
from ..plain import plain
from ..report.tradeoff import DENSE
from ..study import Study
from .backend import attach
from .checkpoints import loading
from .cli import load_weights
from .images import reading
from .metrics import full_precision
from .policy_config import compress_config


def check_test_set(cfg: Config) -> None:
    """Check that a config has something to test on.

    Raises:
        CompressionError: It has no ``test_dataloader``.
    """
    if cfg.get('test_dataloader') is None:
        raise CompressionError(f'{cfg.filename} has no test_dataloader to test on.')


@loading()  # the runner loads the weights, too
def score_on_test_set(
    cfg: Config, checkpoint: str, policy: str | None = None, backend: str = 'torch',
    threads: int | None = None, hooks: Sequence[Hook] = (),
) -> dict[str, float]:
    """All metrics of a network, at full precision.

    Args:
        cfg (Config): Config of the dense model; changed in place.
        checkpoint (str): The weights, or an exported file.
        policy (str | None): Policy file of a compressed network. Defaults to none.
        backend (str): What runs the network; unless it is torch, ``checkpoint`` is the
            file that it runs.
        threads (int | None): Threads of the backend. Defaults to all cores.
        hooks (Sequence[Hook]): Further hooks. Defaults to none.

    Raises:
        CheckpointError: The weights are in a file that would run code.
        CompressionError: The config has no test set, or the weights do not fit.
    """
    check_test_set(cfg)
    cfg.load_from = checkpoint
    if backend != 'torch':
        cfg.load_from = None  # the file holds the weights and the policy
    elif policy:
        compress_config(cfg, policy, checkpoint)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    wrapped = is_model_wrapper(runner.model)
    model = runner.model.module if wrapped else runner.model
    if backend == 'torch':
        load_weights(model, checkpoint)
    else:
        attach(model, checkpoint, backend, threads)
    with reading(cfg.test_dataloader.dataset):
        evaluator = runner.test_loop.evaluator
    # As the search scored it: CocoMetric would round to three decimals.
    with full_precision(evaluator):
        metrics = runner.test()
    return {name: float(value) for name, value in metrics.items()}


class FamilyScores:
    """Scores of the networks that a search wrote, each measured once.

    A family maps ``'dense'`` to None, and targets to the number of the evaluation and
    the policy file, which has its checkpoint beside it.

    Args:
        cfg (Config): Config of the search.
        study (Study): Remembers what was measured.
    """

    def __init__(self, cfg: Config, study: Study) -> None:
        self.cfg, self.study = cfg, study
        about = plain([cfg.get('test_dataloader'), cfg.get('test_evaluator')])
        self.key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:12]

    def known(
        self, family: Mapping[str, tuple[int, Path] | None]
    ) -> dict[str, dict[str, float]]:
        """Metrics of the members that have been measured, by name."""
        found = {name: self.study.get_attr(self._attribute(member))
                 for name, member in family.items()}
        return {name: metrics for name, metrics in found.items() if metrics}

    def measure(self, family: Mapping[str, tuple[int, Path] | None]) -> None:
        """Measure the members that have not been.

        Raises:
            CompressionError: See :func:`score_on_test_set`.
        """
        for name, member in family.items():
            if self.known({name: member}):
                continue
            cfg = copy.deepcopy(self.cfg)
            cfg.work_dir = str(Path(cfg.work_dir) / 'test' / name)
            cfg.experiment_name = f'test_{name}'
            checkpoint, policy = cfg.load_from, None
            if member is not None:
                policy = str(member[1])
                checkpoint = str(member[1].with_suffix('.pth'))
            self.study.set_attr(
                self._attribute(member), score_on_test_set(cfg, checkpoint, policy))

    def _attribute(self, member: tuple[int, Path] | None) -> str:
        return f'test {self.key} {DENSE if member is None else member[0]}'
