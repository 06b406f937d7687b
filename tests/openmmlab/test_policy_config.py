"""Configs of compressed and of distilled models."""

import pytest
from mmengine.config import Config

from mmcompress.errors import CompressionError, PolicyError
from mmcompress.openmmlab.policy_config import compress_config, distil_config
from mmcompress.policy import Policy
from mmcompress.policy.files import PolicyFile


@pytest.fixture
def policy(tmp_path):
    path = tmp_path / 'macs_0.5.json'
    PolicyFile(Policy({}), 'abc', (3, 8, 8)).save(path)
    return path


def dense() -> Config:
    return Config(dict(model=dict(type='M', depth=3), load_from='dense.pth'))


def test_the_model_becomes_compressed(policy):
    cfg = dense()
    compress_config(cfg, str(policy))
    assert cfg.model.type == 'mmcompress.Compressed'
    assert cfg.model.architecture == dict(type='M', depth=3)
    assert cfg.model.policy == str(policy.resolve())
    assert 'backbone' not in cfg.model
    # No slim weights lie beside the policy file: the dense ones are sliced.
    assert cfg.load_from == 'dense.pth'


def test_keys_that_mmdet_reads(policy):
    cfg = dense()
    cfg.model.backbone = dict(type='B', depth=3)
    teacher = cfg.model
    compress_config(cfg, str(policy))
    assert cfg.model.backbone == {}
    assert cfg.model.architecture.backbone.depth == 3
    distil_config(cfg, teacher, 'dense.pth', 0.5)
    assert cfg.model.backbone == {}


def test_weights_beside_the_policy(policy):
    slim = policy.with_suffix('.pth')
    slim.touch()
    cfg = dense()
    compress_config(cfg, str(policy))
    assert cfg.load_from == str(slim)
    compress_config(cfg, str(policy), 'mine.pth')
    assert cfg.load_from == 'mine.pth'


def test_a_bad_policy_leaves_the_config(tmp_path):
    cfg = dense()
    with pytest.raises(PolicyError, match='There is no policy file'):
        compress_config(cfg, str(tmp_path / 'nowhere.json'))
    assert cfg.model == dict(type='M', depth=3)


def test_distil(policy):
    cfg = dense()
    teacher = cfg.model
    compress_config(cfg, str(policy))
    distil_config(cfg, teacher, 'dense.pth', 0.5)
    assert cfg.model.type == 'mmcompress.Distilled'
    assert cfg.model.student.type == 'mmcompress.Compressed'
    assert cfg.model.teacher == dict(type='M', depth=3)
    assert (cfg.model.teacher_checkpoint, cfg.model.weight) == ('dense.pth', 0.5)
    with pytest.raises(CompressionError, match='needs the weights of the dense model'):
        distil_config(dense(), teacher, None, 1.0)
