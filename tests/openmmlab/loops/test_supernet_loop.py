"""Training a supernet: what is trained, what is not, and that it can be resumed."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.runner import Runner, save_checkpoint
from supernet_training import losses, make_config, trained
from torch import nn

from mmcompress.errors import CompressionError
from mmcompress.openmmlab.loops.supernet import SupernetTraining
from mmcompress.supernet.draws import drawn_policies


def assert_equal(left, right):
    """Two models hold the same tensors, bit for bit."""
    left, right = left.state_dict(), right.state_dict()
    assert left.keys() == right.keys()
    assert all(torch.equal(value, right[key]) for key, value in left.items())


def same_losses(one, other):
    return losses(one) == losses(other) and len(losses(one)) == 8


def test_without_subnets_it_is_plain_training(tmp_path):
    plain = trained(tmp_path / 'plain')
    loop = trained(tmp_path / 'loop', tiny=False, random=0)
    assert same_losses(plain, loop)
    assert_equal(plain.model, loop.model)


def test_accumulated_gradients_are_plain_ones_too(tmp_path):
    changes = {'optim_wrapper.accumulative_counts': 3}
    plain = trained(tmp_path / 'plain', changes=changes)
    loop = trained(tmp_path / 'loop', changes=changes, tiny=False, random=0)
    assert same_losses(plain, loop)
    assert_equal(plain.model, loop.model)


def test_subnets_learn_and_are_logged(tmp_path):
    runner = trained(tmp_path, epochs=8, random=2)
    stages = [s.name for s in runner.train_loop.supernet.stages]
    # Images of 8 x 8, halved twice.
    assert stages == ['layer1', 'layer2', 'layer3', 'head']
    for subnet in ('tiny', 'random', 'random2'):
        for stage in stages:
            found = losses(runner, f'loss_{subnet}_{stage}')
            assert len(found) == 32 and np.isfinite(found).all()
    first, last = np.split(np.array(losses(runner, f'loss_tiny_{stages[0]}')), 2)
    assert last.mean() < first.mean()


def by_iterations(work_dir, iterations, changes=None):
    """The runner of a training by iterations, four per epoch."""
    cfg = make_config(work_dir, random=1)
    cfg.train_cfg = dict(
        type='mmcompress.SupernetIterTrainLoop', max_iters=iterations,
        val_interval=100)
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
    # Augmentations draw from a generator that no checkpoint holds.
    cfg.train_dataloader.dataset.pipeline = [dict(type='PackInputs')]
    cfg.default_hooks.checkpoint = dict(
        type='CheckpointHook', by_epoch=False, interval=3)
    cfg.merge_from_dict(changes or {})
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def test_a_training_by_iterations_can_be_resumed_too(tmp_path):
    whole = by_iterations(tmp_path / 'whole', 6)
    by_iterations(tmp_path / 'cut', 3)
    resumed = by_iterations(tmp_path / 'cut', 6, dict(resume=True))
    assert_equal(whole.model, resumed.model)
    assert len(losses(whole, 'loss_tiny_head')) == 6
    with pytest.raises(CompressionError, match='trains nothing'):
        by_iterations(tmp_path / 'no', 1, {
            'train_cfg.full': False, 'train_cfg.tiny': False, 'train_cfg.random': 0})


def test_mixed_precision_trains_as_float_does(tmp_path, monkeypatch):
    # mmengine's wrapper wants a GPU, though its autocast knows bfloat16 on CPUs.
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    changes = {'optim_wrapper.type': 'AmpOptimWrapper',
               'optim_wrapper.dtype': 'bfloat16',
               'optim_wrapper.loss_scale': dict(device='cpu', init_scale=1024.0)}
    exact = trained(tmp_path / 'float', random=1)
    mixed = trained(tmp_path / 'mixed', random=1, changes=changes)
    scaler = mixed.optim_wrapper.loss_scaler
    assert scaler.is_enabled() and scaler.get_scale() == 1024
    stages = [s.name for s in mixed.train_loop.supernet.stages]
    tags = ['loss', *(f'loss_{n}_{s}' for n in ('tiny', 'random') for s in stages)]
    for tag in tags:
        one, other = losses(exact, tag), losses(mixed, tag)
        assert one != other and len(one) == len(other) == 8
        # Eight bits of precision, and seven steps for the difference to grow.
        assert other == pytest.approx(one, rel=0.05)
    assert all(p.dtype == torch.float for p in mixed.model.parameters())


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    whole = trained(tmp_path / 'whole', epochs=3, random=2)
    trained(tmp_path / 'cut', epochs=1, random=2)
    resumed = trained(
        tmp_path / 'cut', epochs=3, changes=dict(resume=True), random=2)
    assert_equal(whole.model, resumed.model)
    averages = [next(h for h in r.hooks if hasattr(h, 'ema_model')).ema_model
                for r in (whole, resumed)]
    assert_equal(*averages)


@pytest.fixture(scope='module')
def loop(tmp_path_factory):
    """A loop that is prepared and has trained nothing."""
    runner = Runner.from_cfg(make_config(tmp_path_factory.mktemp('loop'), random=1))
    runner.train_loop.prepare()
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.model.train()
    return runner.train_loop


def test_a_subnets_stage_gives_gradients_to_that_stage_only(loop):
    model, supernet = loop.model, loop.supernet
    policy = drawn_policies(loop.space, 0, 0)['random']
    recording = record(loop)
    for stage in supernet.stages:
        model.zero_grad()
        with supernet.acting(policy):
            supernet.stage_loss(stage, recording, policy).backward()
        touched = {n for n, p in model.named_parameters()
                   if p.grad is not None and p.grad.abs().sum() > 0}
        inside = {n for n, _ in model.named_parameters()
                  if any(n.startswith(f'{path}.') for path in stage.modules)}
        assert touched and touched <= inside
        # All weights of its convs have one, within the widths of the policy.
        for name in inside:
            parameter = model.get_parameter(name)
            assert parameter.grad is not None, name
    model.zero_grad()


def test_only_the_channels_of_the_subnet_have_gradients(loop):
    model, supernet = loop.model, loop.supernet
    policy = drawn_policies(loop.space, 0, 0)['tiny']
    recording = record(loop)
    model.zero_grad()
    with supernet.acting(policy):
        for stage in supernet.stages:
            supernet.stage_loss(stage, recording, policy).backward()
    for unit in loop.graph.units:
        module = model.get_submodule(unit.name)
        used = module.weight.grad.flatten(1).abs().sum(1) > 0
        # A quarter of 8 channels, and the first ones.
        assert used[:2].all() and not used[2:].any(), unit.name
    model.zero_grad()


def test_the_full_networks_statistics_are_not_touched(loop):
    model, supernet = loop.model, loop.supernet
    recording = record(loop)
    before = {k: v.clone() for k, v in model.named_buffers()}
    for policy in drawn_policies(loop.space, 0, 0, random=3).values():
        with supernet.acting(policy):
            for stage in supernet.stages:
                supernet.stage_loss(stage, recording, policy)
    assert all(torch.equal(v, before[k]) for k, v in model.named_buffers())
    assert model.backbone.bn1.training and model.backbone.bn1.track_running_stats


def test_the_full_network_is_no_distance_from_itself(loop):
    dense = loop.space.decode(loop.space.highest)[0]
    recording = record(loop)
    with loop.supernet.acting(dense):
        for stage in loop.supernet.stages:
            assert loop.supernet.stage_loss(stage, recording, dense) == 0


def record(loop):
    """What the full network does on the first batch."""
    from mmcompress.supernet.recording import Recording

    batch = next(iter(loop.dataloader))
    data = loop.model.data_preprocessor(batch, True)
    recording = Recording(loop.supernet.stages)
    with recording.of(loop.model):
        loop.model(**data, mode='loss')
    return recording


@pytest.mark.parametrize('options', [
    dict(stages=None), dict(stages=None, full=False, tiny=False),
    dict(stages=['backbone.layer1', dict(
        modules=['backbone.layer2', 'backbone.layer3'], name='deep')])])
def test_other_supernets(tmp_path, options):
    runner = trained(tmp_path, **options)
    assert np.isfinite(losses(runner)).all()
    names = set(runner.message_hub.log_scalars)
    if 'stages' in options and options['stages'] is None:
        assert 'train/loss_random' in names
    else:
        assert {'train/loss_tiny_backbone.layer1', 'train/loss_tiny_deep'} <= names


def test_random_paths_leave_statistics(tmp_path):
    runner = trained(tmp_path, stages=None, full=False, tiny=False)
    norm = runner.model.backbone.layer1[0].bn1
    # The first channels are in every path, so they have moved from their start.
    assert (norm.running_mean[:2] != 0).all()


def test_a_frozen_teacher(tmp_path):
    dense = trained(tmp_path / 'dense')
    save_checkpoint(dict(state_dict=dense.model.state_dict()),
                    str(tmp_path / 'dense.pth'))
    runner = trained(tmp_path / 'student', full=False, tiny=False,
                     teacher=str(tmp_path / 'dense.pth'))
    assert_equal(runner.train_loop.teacher, dense.model)
    assert np.isfinite(losses(runner)).all()
    with pytest.raises(CompressionError, match='full=True'):
        trained(tmp_path / 'none', full=False)
    with pytest.raises(CompressionError, match='trains nothing'):
        trained(tmp_path / 'nothing', full=False, tiny=False, random=0)


def test_channels_are_sorted_once(tmp_path):
    dense = trained(tmp_path / 'dense')
    path = str(tmp_path / 'dense.pth')
    save_checkpoint(dict(state_dict=dense.model.state_dict()), path)
    cfg = make_config(tmp_path / 'sorted', random=1, sort='l2')
    cfg.load_from = path
    runner = Runner.from_cfg(cfg)
    runner.train_loop  # noqa: B018  (builds it)
    runner.call_hook('before_run')
    runner.load_or_resume()
    runner.train_loop.prepare()
    norms = runner.model.backbone.layer1[0].conv1.weight.flatten(1).square().sum(1)
    assert (norms.diff() <= 0).all()
    average = next(h for h in runner.hooks if hasattr(h, 'ema_model')).ema_model
    assert_equal(average.module, runner.model)


def test_another_order_than_the_index_is_refused(tmp_path):
    with pytest.raises(CompressionError, match="importance='index'"):
        trained(tmp_path, random=1, changes={'compression.channel.importance': 'l2'})


@pytest.mark.slow
def test_two_processes_train_one_supernet(tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone',
         '--nproc_per_node', '2', __file__, str(tmp_path)],
        env=dict(os.environ, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='',
                 PYTHONPATH=os.pathsep.join(path for path in sys.path if path)),
        capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    states = [torch.load(tmp_path / f'rank{r}.pt') for r in (0, 1)]
    for key, value in states[0]['model'].items():
        if 'running' not in key:  # each process has its own, as in any training
            assert torch.equal(value, states[1]['model'][key]), key
    assert states[0]['loss'] != states[1]['loss'], 'both saw the same images'


def train_one_rank(folder: str) -> None:
    """What every process of the test above does."""
    from mmengine.dist import get_rank

    # mmengine's own start of a process group needs a GPU.
    torch.distributed.init_process_group('gloo')
    cfg = make_config(Path(folder) / 'run', random=2)
    cfg.launcher = 'pytorch'
    cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None)
    runner = Runner.from_cfg(cfg)
    runner.train()
    torch.save(dict(model=runner.model.module.state_dict(), loss=losses(runner)),
               Path(folder) / f'rank{get_rank()}.pt')


if __name__ == '__main__':
    train_one_rank(*sys.argv[1:])


class Loop:
    """A loop of mmengine as far as the mix-in needs one before it runs."""

    def __init__(self, runner, dataloader):
        self.runner = runner


class Training(SupernetTraining, Loop):
    """Of a network with attention."""


def test_projections_are_layers_before_there_is_an_optimiser(net):
    runner = Runner.__new__(Runner)
    runner.model = net(None, a=nn.MultiheadAttention(4, 2))
    Training(runner, {})
    # A runner makes its optimiser when it has made its loop.
    assert isinstance(runner.model.a.q_proj, nn.Linear)
