"""A fine-tuning schedule follows from that of the dense training."""

import pytest
from mmengine.config import Config

from mmcompress.errors import CompressionError
from mmcompress.openmmlab.schedules import short_length, shorten


def dense(**more) -> Config:
    """A config that trains for 50 epochs at .01."""
    return Config(dict(
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=50, val_interval=10,
                       dynamic_intervals=[(35, 1)]),
        val_cfg=dict(), val_dataloader=dict(), val_evaluator=dict(),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        param_scheduler=[dict(type='MultiStepLR', milestones=[30])],
        default_hooks=dict(checkpoint=dict(interval=10, save_best='auto')),
        custom_hooks=[dict(type='YOLOXModeSwitchHook', num_last_epochs=15),
                      dict(type='PipelineSwitchHook', switch_epoch=35),
                      dict(type='EMAHook')],
        **more))


def test_a_tenth_of_the_epochs_at_a_fifth_of_the_rate():
    cfg = dense()
    assert short_length(cfg) == 5
    shorten(cfg, 5)
    assert cfg.train_cfg == dict(type='EpochBasedTrainLoop', max_epochs=5)
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=pytest.approx(0.002))
    rise, fall = cfg.param_scheduler
    assert rise['end'] == 20 and not rise['by_epoch']
    assert fall['T_max'] == 5 and fall['convert_to_iter_based']
    # As the dense training ended: without mosaics from the first epoch on.
    assert cfg.custom_hooks[0].num_last_epochs == 5
    assert cfg.custom_hooks[1].switch_epoch == 0
    assert cfg.custom_hooks[2] == dict(type='EMAHook')
    assert cfg.default_hooks.checkpoint == dict(interval=1)
    assert cfg.val_dataloader is cfg.val_cfg is cfg.val_evaluator is None


def test_given_numbers_win():
    cfg = dense()
    shorten(cfg, 2, 0.5)
    assert cfg.train_cfg.max_epochs == 2 and cfg.optim_wrapper.optimizer.lr == 0.5


def test_iterations():
    cfg = dense()
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=1000, val_interval=100)
    assert short_length(cfg) == 100
    shorten(cfg, 100)
    assert cfg.train_cfg == dict(type='IterBasedTrainLoop', max_iters=100)
    assert all(not scheduler['by_epoch'] for scheduler in cfg.param_scheduler)
    assert cfg.param_scheduler[1]['T_max'] == 100


def test_what_cannot_be_derived_is_said():
    cfg = dense()
    cfg.optim_wrapper = dict(type='OptimWrapper')
    with pytest.raises(CompressionError, match=r'no optim_wrapper\.optimizer\.lr'):
        shorten(cfg, 5)
    with pytest.raises(CompressionError, match=r'no train_cfg\.max_epochs'):
        short_length(Config(dict(train_cfg=None)))
