"""Policy file -> config -> model -> checkpoint, dense or slim."""

import copy

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_checkpoint
from mmpretrain.models import ImageClassifier
from torch import nn

from mmcompress.errors import CompressionError, PolicyError
from mmcompress.graph import trace, verify
from mmcompress.mutators import ChannelMutator
from mmcompress.policy import Policy
from mmcompress.policy.files import PolicyFile

SHAPE = (3, 16, 16)
ARCHITECTURE = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmcompress.CifarResNet', depth=8, widths=(8, 12, 16)),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=5, in_channels=16))


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmpretrain')


@pytest.fixture
def dense(tmp_path) -> nn.Module:
    """A dense model with its checkpoint in dense.pth."""
    torch.manual_seed(0)
    model = MODELS.build(ARCHITECTURE).eval()
    for value in model.state_dict().values():
        if value.is_floating_point() and value.dim() == 1:
            value.uniform_(0.5, 1.5)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'dense.pth')
    return model


@pytest.fixture
def slim(dense, tmp_path) -> nn.Module:
    """What a search writes: slim.json and slim.pth; returns the slim model."""
    model = copy.deepcopy(dense)
    graph = verify(model, trace(model, SHAPE))
    mutator = ChannelMutator(divisor=1)
    mutator.prepare(model, graph)
    policy = Policy({u.name: max(1, u.width // 2) for u in graph.units})
    PolicyFile(policy, graph.fingerprint, SHAPE, mutator.channels(policy)).save(
        tmp_path / 'slim.json')
    slim = mutator.materialise(policy)
    torch.save(dict(state_dict=slim.state_dict()), tmp_path / 'slim.pth')
    return slim


def build(path) -> nn.Module:
    return MODELS.build(dict(
        type='mmcompress.Compressed', architecture=ARCHITECTURE,
        policy=str(path))).eval()


def image() -> torch.Tensor:
    return torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))


def change(path, **entries) -> None:
    """Write the policy file anew with other entries."""
    file = PolicyFile.load(path)
    fields = dict(policy=file.policy, fingerprint=file.fingerprint,
                  input_shape=file.input_shape, channels=file.channels)
    PolicyFile(**{**fields, **entries}).save(path)


@pytest.mark.parametrize('checkpoint', ['dense.pth', 'slim.pth'])
def test_either_checkpoint_gives_the_slim_model(slim, tmp_path, checkpoint):
    model = build(tmp_path / 'slim.json')
    load_checkpoint(model, str(tmp_path / checkpoint), strict=True)
    wanted = slim.state_dict()
    assert model.state_dict().keys() == wanted.keys()
    assert all(torch.equal(v, wanted[k]) for k, v in model.state_dict().items())
    assert torch.equal(model(image()), slim(image()))


def test_is_a_plain_classifier_with_the_keys_of_the_dense_one(dense, slim, tmp_path):
    model = build(tmp_path / 'slim.json')
    assert type(model) is ImageClassifier
    assert model.state_dict().keys() == dense.state_dict().keys()
    assert model.backbone.conv1.out_channels == 4
    before, after = (sum(p.numel() for p in m.parameters()) for m in (dense, model))
    assert after < before / 2


def test_a_slim_checkpoint_survives_another_save(slim, tmp_path):
    model = build(tmp_path / 'slim.json')
    load_checkpoint(model, str(tmp_path / 'dense.pth'))
    again = build(tmp_path / 'slim.json')
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(image()), slim(image()))


def test_copies_load_as_well(slim, tmp_path):
    model = copy.deepcopy(build(tmp_path / 'slim.json'))
    load_checkpoint(model, str(tmp_path / 'dense.pth'), strict=True)
    assert torch.equal(model(image()), slim(image()))


def test_units_at_their_dense_width_need_no_channels(dense, slim, tmp_path):
    change(tmp_path / 'slim.json', policy=Policy(), channels={})
    model = build(tmp_path / 'slim.json')
    load_checkpoint(model, str(tmp_path / 'dense.pth'), strict=True)
    assert torch.equal(model(image()), dense(image()))


def test_another_model(slim, tmp_path):
    change(tmp_path / 'slim.json', fingerprint='0' * 16)
    with pytest.raises(PolicyError, match=(
            r'belongs to another model \(fingerprint 0{16}, ImageClassifier has ')):
        build(tmp_path / 'slim.json')


@pytest.mark.parametrize('entries, message', [
    (dict(policy=Policy({'nope': 2}), channels={}), "names the unit 'nope'"),
    (dict(policy=Policy({'backbone.conv1': 99}), channels={}),
     'is not between 1 and 8'),
    (dict(policy=Policy({'backbone.conv1': 2}),
          channels={'backbone.conv1': np.array([1, 8])}), 'keeps channel 8 of unit'),
])
def test_a_policy_that_does_not_fit(slim, tmp_path, entries, message):
    change(tmp_path / 'slim.json', **entries)
    with pytest.raises(PolicyError, match=message):
        build(tmp_path / 'slim.json')


def test_a_checkpoint_of_another_policy(slim, tmp_path):
    widths = dict(PolicyFile.load(tmp_path / 'slim.json').policy.widths)
    change(tmp_path / 'slim.json', channels={}, policy=Policy(
        dict(widths, **{'backbone.layer1.0.conv1': 2})))
    model = build(tmp_path / 'slim.json')
    with pytest.raises(CompressionError, match=(
            r'^backbone\.layer1\.0\.\S+ of the checkpoint has shape \(4,.*this policy '
            r'takes \(2,.*or \(8,.*of the dense model. Load the checkpoint of')):
        load_checkpoint(model, str(tmp_path / 'slim.pth'))


def test_the_preprocessor_of_the_config_reaches_the_model(slim, tmp_path):
    def built(architecture):
        return MODELS.build(dict(
            type='mmcompress.Compressed', architecture=architecture,
            policy=str(tmp_path / 'slim.json'),
            data_preprocessor=dict(mean=[1, 2, 3], std=[1, 1, 1])))

    assert built(ARCHITECTURE).data_preprocessor.mean.flatten().tolist() == [1, 2, 3]
    own = dict(ARCHITECTURE, data_preprocessor=dict(mean=[4, 5, 6], std=[1, 1, 1]))
    assert built(own).data_preprocessor.mean.flatten().tolist() == [4, 5, 6]
    assert own['data_preprocessor'] == dict(mean=[4, 5, 6], std=[1, 1, 1])


def test_keys_beside_the_architecture_override_it(slim, tmp_path):
    """As mmdet's init_detector sets backbone.init_cfg, and users set test_cfg."""
    def built(**overrides):
        return MODELS.build(dict(
            type='mmcompress.Compressed', architecture=architecture,
            policy=str(tmp_path / 'slim.json'), **overrides))

    pretrained = dict(type='Pretrained', checkpoint='nowhere.pth')
    architecture = dict(
        ARCHITECTURE, backbone=dict(ARCHITECTURE['backbone'], init_cfg=pretrained))
    assert built(backbone={}).backbone.init_cfg == pretrained
    assert built(backbone=dict(init_cfg=None)).backbone.init_cfg['type'] == 'Kaiming'
    assert built(train_cfg=None, pretrained=None).backbone.init_cfg == pretrained
    assert architecture['backbone']['init_cfg'] is pretrained
    with pytest.raises(PolicyError, match='belongs to another model'):
        built(backbone=dict(widths=(8, 12, 15)), head=dict(in_channels=15))
    with pytest.raises(TypeError, match="unexpected keyword argument 'symetric'"):
        built(symetric=True)


class Shared(nn.Module):
    """A conv under two names, and a vector of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 1)
        self.b = nn.Conv2d(6, 6, 1)
        self.again = self.b
        self.gamma = nn.Parameter(torch.rand(6, 1, 1))
        self.c = nn.Conv2d(6, 2, 1)

    def forward(self, x):
        """Apply b twice."""
        x = self.a(x) * self.gamma
        return self.c(self.again(self.b(x).relu()).relu())


def test_shared_modules_and_bare_vectors_load_from_dense(tmp_path):
    MODELS.register_module(module=Shared, force=True)
    dense = Shared()
    graph = verify(dense, trace(dense, (3, 4, 4)))
    kept = np.array([1, 2, 5])
    PolicyFile(Policy({'a': 3}), graph.fingerprint, (3, 4, 4), {'a': kept}).save(
        tmp_path / 'p.json')
    model = MODELS.build(dict(
        type='mmcompress.Compressed', architecture=dict(type='mmengine.Shared'),
        policy=str(tmp_path / 'p.json')))
    model.load_state_dict(dense.state_dict())
    assert torch.equal(model.gamma, dense.gamma[kept])
    assert torch.equal(model.again.weight, dense.b.weight[kept][:, kept])
    assert model.again is model.b
