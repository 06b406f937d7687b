"""The published policies, through the front door."""

from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
import torch
from published_policies import facts, write
from torch import nn
from without_openmmlab import run_blocked

import mmcompress as mmc
from mmcompress.errors import CompressionError, PolicyError
from mmcompress.policy.files import PolicyFile


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    """Three policies of two methods."""
    write(tmp_path, 'legr/resnet8_macs_0.5')
    write(tmp_path, 'legr/resnet8_macs_0.75')
    write(tmp_path, 'swp/yolox_macs_0.5', network='YOLOX-nano', dataset='COCO',
          metric='coco/bbox_mAP')
    return tmp_path


def test_the_policies_of_this_tree_are_found(repo):
    zoo = mmc.zoo()
    assert [p.path for p in zoo] == sorted(repo.glob('configs/*/policies/*.json'))
    assert len(zoo) > 0
    for entry in zoo:
        assert entry is zoo[entry.name] and entry.name in repr(zoo)
        assert entry.load().facts['costs'] == entry.costs
        assert 0 < entry.shares['macs'] <= 1 and entry.config_file.is_file()


def test_a_collection_of_entries_by_name(configs):
    zoo = mmc.zoo(folder=configs)
    assert zoo.names == tuple(p.name for p in zoo) == (
        'legr/resnet8_macs_0.5', 'legr/resnet8_macs_0.75', 'swp/yolox_macs_0.5')
    entry = zoo['swp/yolox_macs_0.5']
    assert entry in zoo and entry.name in zoo and 'swp/yolox' not in zoo
    assert zoo._repr_html_().startswith('<pre>Published policies')
    with pytest.raises(FrozenInstanceError):
        zoo.policies = ()


@pytest.mark.parametrize('pattern, count', [
    ('resnet*0.5', 1), ('RESNET', 2), ('coco', 1), ('legr', 2), ('bbox_mAP', 1),
    ('*', 3), ('mobilenet', 0)])
def test_patterns(configs, pattern, count):
    assert len(mmc.zoo(pattern, folder=configs)) == count


def test_an_unknown_name_is_corrected(configs):
    with pytest.raises(PolicyError, match=r"no policy 'resnet8_macs_0.75'\. "
                       r"Did you mean 'legr/resnet8_macs_0.75'\?"):
        mmc.zoo(folder=configs)['resnet8_macs_0.75']


def test_mistakes_are_sentences(tmp_path):
    with pytest.raises(PolicyError, match=r'There is no folder .*nowhere'):
        mmc.zoo(folder=tmp_path / 'nowhere')
    with pytest.raises(CompressionError, match=r'pattern of zoo\(\) is a text'):
        mmc.zoo(7)


class Net(nn.Module):
    """Two convolutions, of which the inner channels may go."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Conv2d(3, width, 3, padding=1)
        self.outer = nn.Conv2d(width, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of images."""
        return self.head(self.outer(self.inner(x).relu()).relu().mean((2, 3)))


def test_an_entry_becomes_a_network_by_repair_alone(tmp_path):
    images = torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    session = mmc.prepare(Net(), images[:1], calibration=images.split(16),
                          channel=dict(divisor=4))
    mmc.search(session, 'Uniform', evaluations=1, work_dir=tmp_path, macs=0.6)
    path, = (tmp_path / 'policies').glob('*.json')
    file = PolicyFile.load(path)
    replace(file, facts=facts()).save(tmp_path / 'method' / 'policies' / path.name)
    entry = mmc.zoo(folder=tmp_path)[f'method/{path.stem}']
    slim = mmc.reconstruct(Net(), entry, images.split(16))
    assert slim.inner.out_channels == file.policy.widths['inner'] < 16
    same = mmc.reconstruct(Net(), path, images.split(16))
    assert all(map(torch.equal, slim.state_dict().values(), same.state_dict().values()))
    with pytest.raises(PolicyError, match='belongs to another model'):
        mmc.reconstruct(Net(24), entry, images.split(16))


WITHOUT_OPENMMLAB = '''
import mmcompress as mmc

print(len(mmc.zoo()), *(entry.load().fingerprint for entry in mmc.zoo()))
'''


def test_openmmlab_is_not_needed(tmp_path):
    assert run_blocked(WITHOUT_OPENMMLAB, cwd=tmp_path).split() == [
        str(len(mmc.zoo())), *(entry.load().fingerprint for entry in mmc.zoo())]
