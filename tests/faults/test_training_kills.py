"""A training that is killed, in a save or elsewhere, ends as if it never had been."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from supernet_training import make_config

from mmcompress.errors import CompressionError
from mmcompress.openmmlab.training import TrainOptions, newest_checkpoint, train


class Killed(BaseException):
    """Nothing between here and the test handles it."""


class KillBefore(Hook):
    """Ends the training before an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def before_train_epoch(self, runner) -> None:
        """End it."""
        if runner.epoch == self.epoch:
            raise Killed


def job(work_dir: Path, epochs: int = 3, **changes) -> Config:
    """The config of a training with random flips and dropout, which keeps one file."""
    cfg = make_config(work_dir, epochs)
    cfg.custom_hooks = [dict(type='EMAHook', momentum=0.1)]
    cfg.model.backbone.type = 'mmcompress.CifarResNet'
    cfg.model.head = dict(
        type='StackedLinearClsHead', num_classes=2, in_channels=8, mid_channels=[8],
        dropout_rate=0.5)
    cfg.default_hooks.checkpoint = dict(
        type='CheckpointHook', interval=1, max_keep_ckpts=1)
    cfg.merge_from_dict(changes)
    return cfg


def by_iterations(work_dir: Path, **changes) -> Config:
    """The same for nine iterations."""
    return job(
        work_dir, train_cfg=dict(
            _delete_=True, by_epoch=False, max_iters=9, val_interval=100),
        **{'train_dataloader.sampler.type': 'InfiniteSampler',
           'default_hooks.checkpoint.by_epoch': False,
           'default_hooks.checkpoint.interval': 3, **changes})


def assert_equal(one: Path, other: Path) -> None:
    """Two checkpoints hold the same weights, averages and momenta."""
    one, other = (torch.load(x, weights_only=False) for x in (one, other))
    for key in ('state_dict', 'ema_state_dict'):
        assert one[key].keys() == other[key].keys()
        assert all(torch.equal(x, other[key][name]) for name, x in one[key].items())
    assert str(one['optimizer']) == str(other['optimizer'])


@pytest.mark.parametrize('changes', [
    {}, dict(randomness=dict(seed=None)), {
        'train_dataloader.num_workers': 1,
        'train_dataloader.persistent_workers': True}])
def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path, changes) -> None:
    cut = job(tmp_path / 'cut', **changes)
    with pytest.raises(Killed):
        train(cut, TrainOptions(), [KillBefore(1)])
    noted = torch.load(tmp_path / 'cut/epoch_1.pth', weights_only=False)['meta']
    train(job(tmp_path / 'cut', **changes), TrainOptions(resume='auto'))
    whole = job(tmp_path / 'whole', **changes)
    whole.randomness = dict(seed=noted['seed'])
    train(whole, TrainOptions())
    assert_equal(tmp_path / 'cut/epoch_3.pth', tmp_path / 'whole/epoch_3.pth')
    assert [p.name for p in (tmp_path / 'cut').glob('*.pth')] == ['epoch_3.pth']


def test_one_by_iterations_too(tmp_path) -> None:
    train(by_iterations(tmp_path / 'whole'), TrainOptions())
    cut = {'train_cfg.max_iters': 6}
    train(by_iterations(tmp_path / 'cut', **cut), TrainOptions())
    train(by_iterations(tmp_path / 'cut'), TrainOptions(resume='auto'))
    assert_equal(tmp_path / 'cut/iter_9.pth', tmp_path / 'whole/iter_9.pth')


@pytest.mark.parametrize('moment', ['write', 'rename', 'note'])
def test_a_kill_in_a_save_loses_nothing(tmp_path, monkeypatch, moment) -> None:
    """Writing the second checkpoint; only one is kept."""
    with monkeypatch.context() as patch:
        if moment == 'note':  # mmengine truncates its note, then writes it
            train(job(tmp_path, epochs=2), TrainOptions())
            (tmp_path / 'last_checkpoint').write_text('')
        else:
            break_second(patch, moment)
            with pytest.raises(Killed):
                train(job(tmp_path), TrainOptions())
    left = newest_checkpoint(str(tmp_path))
    assert torch.load(left, weights_only=False)['meta']['epoch'] == (
        2 if moment == 'note' else 1)
    runner = train(job(tmp_path), TrainOptions(resume='auto'))
    assert runner.epoch == 3 and (tmp_path / 'epoch_3.pth').is_file()


def break_second(patch: pytest.MonkeyPatch, moment: str) -> None:
    """Kill the second write of a checkpoint, halfway or before its last step."""
    import os
    import pathlib

    seen: list[str] = []
    write, rename = pathlib.Path.write_bytes, os.replace

    def broken_write(self: Path, data: bytes) -> int:
        seen.append(str(self))
        if len(seen) == 2 and moment == 'write':
            write(self, data[:len(data) // 2])
            raise Killed
        return write(self, data)

    def broken_rename(source, target) -> None:
        if len(seen) == 2 and str(target).endswith('.pth'):
            raise Killed
        rename(source, target)

    patch.setattr(pathlib.Path, 'write_bytes', broken_write)
    patch.setattr(os, 'replace', broken_rename)


def test_one_best_checkpoint_is_kept(tmp_path) -> None:
    best = {'default_hooks.checkpoint.save_best': 'accuracy/top1',
            'train_cfg.val_interval': 1}
    train(job(tmp_path, epochs=2, **best), TrainOptions())
    best, last = sorted(p.name for p in tmp_path.glob('*.pth'))
    assert best.startswith('best_') and last == 'epoch_2.pth'


@pytest.mark.parametrize('content', ['text', [1], dict(state_dict=3)])
def test_a_checkpoint_that_is_none(tmp_path, content) -> None:
    torch.save(content, tmp_path / 'c.pth')
    for options in (TrainOptions(checkpoint=str(tmp_path / 'c.pth')),
                    TrainOptions(resume=str(tmp_path / 'c.pth'))):
        with pytest.raises(CompressionError, match='not tensors by name'):
            train(job(tmp_path / 'w'), options)
    assert not (tmp_path / 'w').exists()
