"""Training the model of a config, dense or that of a policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import Runner, find_latest_checkpoint

from ..errors import CompressionError
from ..options import NotNegative, check_values
from .checkpoints import loading
from .cli import load_weights, read_checkpoint
from .hooks import EpochSeedHook
from .images import reading
from .policy_config import compress_config, distil_config


@dataclass(frozen=True)
class TrainOptions:
    """What is trained, and from where.

    Args:
        policy (str | None): Policy file; the model of the config becomes its network.
        checkpoint (str | None): Weights to start from, dense or slim. Defaults to
            those beside the policy, else ``load_from``.
        from_scratch (bool): Start from random weights. Defaults to False.
        distil (float | None): Learn from the dense model with this weight.
        resume (str | None): Checkpoint to continue from; ``'auto'`` for the newest in
            the work dir, if any.
    """

    policy: str | None = None
    checkpoint: str | None = None
    from_scratch: bool = False
    distil: NotNegative | None = None
    resume: str | None = None

    def __post_init__(self) -> None:
        check_values('the training', type(self), vars(self))


@loading()  # the runner loads the weights, too
def train(cfg: Config, options: TrainOptions, hooks: Sequence[Hook] = ()) -> Runner:
    """Train as a config says, in its work dir.

    Args:
        cfg (Config): Config of the dense model; changed in place.
        options (TrainOptions): What to train.
        hooks (Sequence[Hook]): Further hooks. Defaults to none.

    Returns:
        Runner: That has trained.

    Raises:
        CompressionError: The config has nothing to train on, or the options or the
            weights do not fit.
    """
    if cfg.get('train_dataloader') is None:
        raise CompressionError(f'{cfg.filename} has no train_dataloader to train on.')
    if options.from_scratch and options.checkpoint:
        raise CompressionError('--from-scratch and --checkpoint exclude each other.')
    dense_model, dense_checkpoint = cfg.model, cfg.get('load_from')
    if options.policy:
        compress_config(cfg, options.policy, options.checkpoint)
    elif options.checkpoint:
        cfg.load_from = options.checkpoint
    if options.from_scratch:
        cfg.load_from = None
    if options.distil is not None:
        distil_config(cfg, dense_model, dense_checkpoint, options.distil)
    resume = options.resume
    if resume == 'auto':
        # mmengine would forget load_from where there is nothing to resume yet.
        resume = newest_checkpoint(cfg.work_dir)
    if resume:
        cfg.resume, cfg.load_from = True, resume
    if cfg.get('load_from'):
        meta = read_checkpoint(cfg.load_from).get('meta') or {}
        if resume and meta.get('seed') is not None:
            # mmengine takes it over when the images have their order.
            cfg.randomness = dict(cfg.get('randomness') or {}, seed=meta['seed'])
    _make_resumable(cfg)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    if not any(isinstance(hook, EpochSeedHook) for hook in runner.hooks):
        runner.register_hook(EpochSeedHook())
    if options.policy and cfg.get('load_from') and not resume:
        # mmengine only warns of tensors that do not fit.
        wrapped = is_model_wrapper(runner.model)
        load_weights(runner.model.module if wrapped else runner.model, cfg.load_from)
    with reading(cfg.train_dataloader.dataset):
        runner.train_loop  # noqa: B018  (builds it)
    runner.train()
    return runner


def newest_checkpoint(work_dir: str) -> str | None:
    """The checkpoint to resume from.

    It is what mmengine noted, unless a kill left the note empty or the folder moved.
    """
    noted = find_latest_checkpoint(work_dir)
    if noted and ('://' in noted or Path(noted).exists()):
        return noted
    found = [path for kind in ('epoch', 'iter')
             for path in Path(work_dir).glob(f'{kind}_*.pth')]
    return str(max(found, key=lambda path: path.stat().st_mtime)) if found else None


def _make_resumable(cfg: Config) -> None:
    """Let a kill cost no checkpoint, and workers be seeded in every epoch, in place."""
    hooks = cfg.get('default_hooks') or {}
    checkpoint = hooks.get('checkpoint', dict(type='CheckpointHook', interval=1))
    if checkpoint and checkpoint.get('type') == 'CheckpointHook':
        cfg.default_hooks = dict(
            hooks, checkpoint=dict(checkpoint, type='mmcompress.WholeCheckpointHook'))
    if cfg.train_dataloader.get('persistent_workers'):
        cfg.train_dataloader.persistent_workers = False
