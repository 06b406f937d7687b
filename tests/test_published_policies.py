"""The published policies belong to their configs, cost and score what they state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import Tensor, nn

import mmcompress as mmc
from mmcompress.costs import costs_of
from mmcompress.policy.published import PublishedPolicy
from mmcompress.surgery.weights import weights_digest
from tools.dev.metafile import METRICS, models_of

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
POLICIES = tuple(mmc.zoo())
METAFILES = {path.parent.name: path.read_text()
             for path in CONFIGS.glob('*/metafile.yml')}
policies = pytest.mark.parametrize('policy', POLICIES, ids=lambda policy: policy.name)


def test_the_zoo_is_that_of_this_tree():
    assert POLICIES and all(p.path.is_relative_to(CONFIGS) for p in POLICIES)


@pytest.mark.parametrize('method', sorted(METAFILES))
def test_files_and_metafile_agree(method):
    own = [p for p in POLICIES if p.path.parents[1].name == method]
    models = yaml.safe_load(METAFILES[method])['Models']
    assert [m for m in models if 'Results' in m] == models_of(own, METAFILES[method])
    for policy in own:
        # mmengine takes the first model of a config.
        first = next(m for m in models if m['Config'] == f'configs/{policy.config}')
        assert 'Results' not in first


def test_every_method_with_policies_has_a_metafile():
    assert {p.path.parents[1].name for p in POLICIES} <= set(METAFILES)


def test_names_of_models_differ():
    names = [model['Name'] for text in METAFILES.values()
             for model in yaml.safe_load(text)['Models']]
    assert len(names) == len(set(names))


@policies
def test_what_is_stated_is_complete(policy):
    assert policy.config.split('/')[0] == policy.path.parents[1].name
    assert policy.config_file.is_file() and policy.metric in METRICS
    assert policy.load().facts['costs'].keys() >= policy.shares.keys() >= {'macs'}
    for text in (policy.measured, policy.checkpoint, policy.command):
        assert len(text) > 10
    assert 'images' in policy.measured


@pytest.mark.slow
@policies
def test_fingerprint_and_costs_are_those_of_the_config(policy):
    needed = 'mmpretrain' if policy.task == 'Image Classification' else 'mmdet'
    pytest.importorskip(needed, reason=f'{policy.config} needs {needed}')
    from tools.dev.recomputing import graph_of, shares_of

    file = policy.load()
    graph = graph_of(policy.config_file, file)  # compares the fingerprints
    assert costs_of(graph, file.policy) == pytest.approx(dict(policy.costs))
    assert shares_of(file, graph) == pytest.approx(dict(policy.shares))


@pytest.fixture
def resnet56(shared_data: Path, repo: Path, tmp_path, monkeypatch) -> nn.Module:
    """The converted weights in the dense model of the config."""
    mmpretrain = pytest.importorskip('mmpretrain', reason='a classifier of mmpretrain')
    from mmcompress.openmmlab.models import convert_akamaster

    init_default_scope('mmpretrain')  # policies of detectors were looked at before
    monkeypatch.setenv('DATA_ROOT', str(shared_data))
    state = torch.load(
        shared_data / 'cifar_resnet/resnet56_cifar10.pth', weights_only=True)
    torch.save(dict(state_dict=convert_akamaster(state)), tmp_path / 'dense.pth')
    return mmpretrain.get_model(
        str(repo / 'configs/cifar/resnet56_cifar10.py'),
        pretrained=str(tmp_path / 'dense.pth'))


def batches(dense: nn.Module, loader) -> Iterator[tuple[Tensor, Tensor]]:
    """Images as the network takes them, with their labels."""
    for item in Runner.build_dataloader(loader, seed=0):
        data = dense.data_preprocessor(item)
        yield data['inputs'], torch.cat([x.gt_label for x in data['data_samples']])


@pytest.mark.slow
@pytest.mark.parametrize('policy', [
    p for p in POLICIES if p.network == 'ResNet-56' and 'cifar10' in p.config],
    ids=lambda policy: policy.name)
def test_repair_alone_gives_the_stated_accuracy(
        policy: PublishedPolicy, resnet56: nn.Module) -> None:
    """By unlabelled training images that the search did not choose."""
    cfg = Config.fromfile(policy.config_file)
    cfg.train_dataloader.dataset.pipeline = cfg.test_dataloader.dataset.pipeline
    train = (inputs for inputs, _ in batches(resnet56, cfg.train_dataloader))
    images = [inputs for inputs, _ in zip(train, range(4))]
    tests = list(batches(resnet56, cfg.test_dataloader))

    def top1(model: nn.Module) -> float:
        with torch.no_grad():
            hits = [model(x, mode='tensor').argmax(1) == y for x, y in tests]
        return 100 * torch.cat(hits).float().mean().item()

    assert weights_digest(resnet56).startswith(policy.weights)
    assert top1(resnet56) == pytest.approx(policy.dense_score, abs=1e-3)
    slim = mmc.reconstruct(resnet56, policy, images)
    assert top1(slim.eval()) == pytest.approx(policy.score, abs=1.0)
