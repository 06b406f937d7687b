"""A supernet by the command lines: trained, searched, its networks trained."""

import json
from pathlib import Path

import numpy as np
import torch
from command_lines import Job

SEARCH = """
_base_ = {base!r}
load_from = {checkpoint!r}
compression = dict(
    channel=dict(importance='index', divisor=1, step=0.25), reconstruct=False)
search_cfg = dict(
    searcher=dict(
        _delete_=True, type='Islands', evaluations=8, population=2, islands=2),
    targets=dict(macs=[0.5]))
"""
SUPERNET = """
_base_ = './search.py'
train_cfg = dict(
    _delete_=True, type='mmcompress.SupernetTrainLoop', max_epochs=1, sort='l2')
custom_hooks = [dict(type='mmcompress.EpochSeedHook')]
"""


def weights(path: Path) -> dict[str, torch.Tensor]:
    """The state dict of a checkpoint."""
    return torch.load(path, weights_only=False)['state_dict']


def test_from_a_pretrained_network_to_a_trained_policy(
        tool, job: Job, tmp_path: Path) -> None:
    trained = tmp_path / 'supernet/epoch_1.pth'
    search, supernet = tmp_path / 'search.py', tmp_path / 'supernet.py'
    search.write_text(SEARCH.format(base=str(job.config), checkpoint=str(trained)))
    supernet.write_text(SUPERNET)
    ended = tool('train', supernet, '--work-dir', tmp_path / 'supernet',
                 '--checkpoint', job.checkpoint, cwd=job.folder)
    assert ended.code == 0, ended
    log = ''.join(p.read_text() for p in (tmp_path / 'supernet').glob('*/*.log'))
    assert 'loss_tiny_layer2: ' in log and 'loss_random_head: ' in log

    ended = tool('search', search, '--work-dir', tmp_path / 'search', cwd=job.folder)
    assert ended.code == 0, ended
    policy = tmp_path / 'search/policies/macs_0.5.json'
    # What remains is the first channels of the supernet, as it was trained.
    for channels in json.loads(policy.read_text())['channels'].values():
        assert channels == list(range(len(channels)))
    name = 'backbone.layer1.0.conv1.weight'
    slim = weights(policy.with_suffix('.pth'))[name]
    full = weights(trained)[name]
    assert torch.equal(slim, full[:slim.shape[0], :slim.shape[1]])

    train = ('train', search, '--policy', policy, '--cfg-options',
             'train_cfg.max_epochs=1', 'optim_wrapper.optimizer.lr=1e-9')
    for flags, inherited in ((), True), (('--from-scratch',), False):
        work_dir = tmp_path / f'tuned{len(flags)}'
        ended = tool(*train, '--work-dir', work_dir, *flags, cwd=job.folder)
        assert ended.code == 0, ended
        tuned = weights(work_dir / 'epoch_1.pth')[name]
        assert tuned.shape == slim.shape
        assert np.allclose(tuned, slim, atol=1e-6) == inherited


def test_two_origins_of_weights_exclude_each_other(
        tool, job: Job, tmp_path: Path) -> None:
    ended = tool('train', job.config, '--from-scratch', '--checkpoint', job.checkpoint,
                 '--work-dir', tmp_path, cwd=job.folder)
    assert ended.code == 1 and 'exclude each other' in ended.message
