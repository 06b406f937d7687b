"""A short schedule for fine-tuning, from the one of the dense model."""

from __future__ import annotations

from mmengine.config import Config

from ..errors import CompressionError

SHARE = 0.1
"""Length of the short schedule, as a share of the dense one."""

RATE = 0.2
"""Its highest learning rate, as a share of the dense one's."""

WARM_UP = 20
"""Iterations in which the rate rises from a tenth of that."""

END = 0.01
"""The last learning rate, as a share of the highest."""



def dense_length(cfg: Config) -> tuple[int, bool]:
    """How long a config trains: a number, and whether it counts epochs.

    Raises:
        CompressionError: It does not say.
    """
    loop = cfg.get('train_cfg') or {}
    by_epoch = 'max_epochs' in loop
    if not by_epoch and 'max_iters' not in loop:
        raise CompressionError(
            f'{cfg.filename} has no train_cfg.max_epochs (or max_iters) to derive a '
            'schedule from; add a train_cfg, or leave fine-tuning out with --epochs 0.')
    return loop['max_epochs' if by_epoch else 'max_iters'], by_epoch


def short_length(cfg: Config) -> int:
    """Epochs (or iterations) to fine-tune for, unless somebody says: a tenth."""
    return max(1, round(SHARE * dense_length(cfg)[0]))


def shorten(cfg: Config, length: int, rate: float | None = None) -> None:
    """Make a config train for a short time at a low rate, in place.

    The rate rises for a moment and falls along a cosine. Nothing is validated on the
    way. It goes on where the dense training ended: hooks that act some epochs before
    its end, such as those that switch mosaics off, have acted from the first epoch on.

    Args:
        cfg (Config): Config of the dense training.
        length (int): Epochs, or iterations where the config counts these.
        rate (float | None): Highest learning rate. Defaults to :data:`RATE` of the
            dense one.

    Raises:
        CompressionError: The config says no learning rate, or no length.
    """
    _, by_epoch = dense_length(cfg)
    optimizer = (cfg.get('optim_wrapper') or {}).get('optimizer') or {}
    if 'lr' not in optimizer:
        raise CompressionError(
            f'{cfg.filename} has no optim_wrapper.optimizer.lr to derive a learning '
            'rate from; write what fine-tuning needs into compress_cfg.finetune.')
    optimizer['lr'] = RATE * optimizer['lr'] if rate is None else rate
    loop = cfg.train_cfg
    loop['max_epochs' if by_epoch else 'max_iters'] = length
    for name in ('dynamic_intervals', 'val_interval', 'val_begin'):
        loop.pop(name, None)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    checkpoint = (cfg.get('default_hooks') or {}).get('checkpoint')
    if checkpoint:
        checkpoint.pop('save_best', None)
        if by_epoch:
            checkpoint['interval'] = 1
    counted = dict(by_epoch=by_epoch)
    if by_epoch:
        counted['convert_to_iter_based'] = True
    cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=WARM_UP),
        dict(type='CosineAnnealingLR', T_max=length, eta_min_ratio=END, **counted)]
    ended = dict(num_last_epochs=length, switch_epoch=0)
    cfg.custom_hooks = [
        {**hook, **{name: x for name, x in ended.items() if name in hook}}
        for hook in cfg.get('custom_hooks') or ()]
