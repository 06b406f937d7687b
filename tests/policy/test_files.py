"""Policy files come back as written, or say what is wrong with them."""

import json

import numpy as np
import pytest

from mmcompress.errors import PolicyError
from mmcompress.policy import Policy
from mmcompress.policy.files import PolicyFile


def example() -> PolicyFile:
    return PolicyFile(
        Policy({'a': 2, 'b': 3}, {'l': (4, 8)}), 'cafe', (3, 32, 48),
        channels={'a': np.array([0, 5])}, facts={'score': 0.5, 'name': 'é'})


@pytest.fixture
def path(tmp_path):
    file = tmp_path / 'policies/p.json'
    example().save(file)
    return file


def change(path, **entries) -> None:
    """Overwrite entries of a policy file; None deletes one."""
    data = json.loads(path.read_text()) | entries
    path.write_text(json.dumps({k: v for k, v in data.items() if v is not None}))


def test_round_trip(path):
    loaded, wanted = PolicyFile.load(path), example()
    assert loaded.policy == wanted.policy
    assert loaded.fingerprint == 'cafe'
    assert loaded.input_shape == (3, 32, 48)
    assert loaded.channels.keys() == {'a'}
    assert np.array_equal(loaded.channels['a'], [0, 5])
    assert loaded.facts == wanted.facts


def test_is_plain_versioned_json(path):
    data = json.loads(path.read_text())
    assert data['format'] == 'mmcompress.policy' and data['version'] == 1
    assert data['widths'] == {'a': 2, 'b': 3} and data['bits'] == {'l': [4, 8]}


def test_facts_are_optional(path):
    change(path, facts=None)
    assert PolicyFile.load(path).facts == {}


def test_missing(tmp_path):
    with pytest.raises(PolicyError, match=r"no policy file .*none.json.*policies/"):
        PolicyFile.load(tmp_path / 'none.json')


@pytest.mark.parametrize('content', [b'', b'{"format": ', b'\xff\xfe\x00'])
def test_not_json(path, content):
    path.write_bytes(content)
    with pytest.raises(PolicyError, match='cannot be read as JSON'):
        PolicyFile.load(path)


def test_a_folder(tmp_path):
    with pytest.raises(PolicyError, match='cannot be read'):
        PolicyFile.load(tmp_path)


@pytest.mark.parametrize('content', ['[]', '3', '{}', '{"format": "other"}'])
def test_other_json(path, content):
    path.write_text(content)
    with pytest.raises(PolicyError, match='is not a policy file of mmcompress'):
        PolicyFile.load(path)


@pytest.mark.parametrize('version', [2, '1', None])
def test_other_version(path, version):
    change(path, version=version)
    with pytest.raises(PolicyError, match=f'has version {version}; this mmcompress '
                                          'reads version 1'):
        PolicyFile.load(path)


@pytest.mark.parametrize('entries', [
    dict(fingerprint=None),
    dict(input_shape=None),
    dict(input_shape=3),
    dict(channels=None),
    dict(channels=[1, 2]),
    dict(channels={'a': ['x', 'y']}),
    dict(channels={'a': 5}),
    dict(widths=None),
    dict(widths=[2, 3]),
    dict(widths={'a': 'wide', 'b': 3}),
    dict(widths={'a': 2.5, 'b': 3}),
    dict(bits=None),
    dict(bits={'l': 8}),
    dict(bits={'l': [8, 8, 8]}),
    dict(bits={'l': ['8', '8']}),
], ids=str)
def test_damaged_entry(path, entries):
    change(path, **entries)
    with pytest.raises(PolicyError, match='is damaged'):
        PolicyFile.load(path)


@pytest.mark.parametrize('channels, message', [
    ({'a': [0]}, "'a' has width 2 but lists 1 channels"),
    ({'nope': [0]}, "'nope' has width None but lists 1 channels"),
    ({'a': [5, 0]}, "channels of unit 'a' are not ascending"),
    ({'a': [3, 3]}, "channels of unit 'a' are not ascending"),
    ({'a': [-1, 3]}, "channels of unit 'a' are not ascending"),
    ({'a': [0.5, 3]}, 'is damaged'),
])
def test_inconsistent_channels(path, channels, message):
    change(path, channels=channels)
    with pytest.raises(PolicyError, match=message):
        PolicyFile.load(path)


def test_belongs_to_one_model():
    example().check_model('cafe')
    with pytest.raises(PolicyError, match=r'another model \(fingerprint cafe, '
                                          r'ResNet has beef\). Use the config'):
        example().check_model('beef', 'ResNet')
