"""A small supernet training on images made up in memory."""

from pathlib import Path

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

import mmcompress  # noqa: F401  (must precede mmpretrain)
from mmcompress.testing.small_classifier import small_classifier


def make_config(work_dir: Path, epochs: int = 2, **loop) -> Config:
    """Config of a training; ``loop`` are options of the supernet's loop.

    Without any it is plain training.
    """
    init_default_scope('mmpretrain')
    dataset = dict(type='mmcompress.TwoClasses', images=40, pipeline=[
        dict(type='RandomFlip', prob=0.5), dict(type='PackInputs')])
    loader = dict(batch_size=10, num_workers=0, dataset=dataset,
                  sampler=dict(type='DefaultSampler', shuffle=True))
    train = dict(type='mmcompress.SupernetTrainLoop', **loop) if loop else \
        dict(by_epoch=True)
    return Config(dict(
        **small_classifier(),
        train_dataloader=loader, train_cfg=dict(
            train, max_epochs=epochs, val_interval=100),
        val_dataloader=loader, val_cfg=dict(), test_dataloader=loader, test_cfg=dict(),
        test_evaluator=dict(type='Accuracy', topk=(1,)),
        val_evaluator=dict(type='Accuracy', topk=(1,)),
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.05, momentum=0.9),
            clip_grad=dict(max_norm=5.0)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        custom_hooks=[dict(type='mmcompress.EpochSeedHook'),
                      dict(type='EMAHook', momentum=0.1)],
        env_cfg=dict(dist_cfg=dict(backend='gloo')),
        compression=dict(input_shape=(3, 8, 8), channel=dict(
            importance='index', divisor=1, min_ratio=0.25, step=0.25)),
        randomness=dict(seed=0), work_dir=str(work_dir),
        default_scope='mmpretrain', log_level='ERROR',
        experiment_name='_'.join(Path(work_dir).parts)))


def trained(work_dir: Path, epochs: int = 2, changes: dict | None = None, **loop
            ) -> Runner:
    """The runner of a finished training.

    Args:
        work_dir (Path): Its work dir.
        epochs (int): How many.
        changes (dict | None): Options of the config to merge.
        loop: See :func:`make_config`.
    """
    cfg = make_config(work_dir, epochs, **loop)
    cfg.merge_from_dict(changes or {})
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def losses(runner: Runner, tag: str = 'loss') -> list[float]:
    """Logged values of every iteration."""
    return runner.message_hub.get_scalar(f'train/{tag}')._log_history.tolist()
