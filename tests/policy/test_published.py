"""Published policies say all that is promised, or what is missing."""

import json
from dataclasses import FrozenInstanceError

import pytest
from published_policies import COSTS, facts, write

from mmcompress.errors import PolicyError
from mmcompress.policy.files import PolicyFile
from mmcompress.policy.published import ZOO, published_in, read_published


def test_what_is_published_comes_back(tmp_path):
    path = write(tmp_path, 'method/net_macs_0.5')
    entry = read_published(path)
    assert entry.name == 'method/net_macs_0.5' and entry.path == path
    # The score of the test images, not that of the search.
    assert (entry.metric, entry.score, entry.dense_score) == ('accuracy/top1', 91.5, 92)
    assert entry.costs == COSTS and entry.shares['macs'] == 0.5
    assert entry.searcher == 'TwoStage' and entry.network == 'ResNet-8'
    assert entry.config_file == tmp_path / 'method' / 'net.py'
    assert repr(entry) == (
        'method/net_macs_0.5: accuracy/top1 91.5 (dense 92) at 50.0% of the MACs')
    data = json.loads(json.dumps(entry.to_dict()))
    assert data['path'] == str(path) and data['costs'] == COSTS


def test_it_stays_an_ordinary_policy_file(tmp_path):
    file = read_published(write(tmp_path, 'method/net_macs_0.5')).load()
    assert isinstance(file, PolicyFile) and file.policy.widths == {'u': 4}
    assert file.facts['score'] == -0.25 and file.facts['metric'] == 'distance'


def test_nobody_changes_an_entry(tmp_path):
    entry = read_published(write(tmp_path, 'method/net_macs_0.5'))
    with pytest.raises(FrozenInstanceError):
        entry.score = 99.0
    with pytest.raises(TypeError):
        entry.shares['macs'] = 0.1


def test_the_order_is_that_of_the_names(tmp_path):
    for name in ('two/b', 'one/z', 'two/a'):
        write(tmp_path, name)
    (tmp_path / 'one' / 'policies' / 'README.md').write_text('not a policy')
    assert [p.name for p in published_in(tmp_path)] == ['one/z', 'two/a', 'two/b']


@pytest.mark.parametrize('changes, message', [
    (dict(score='high'), 'score of what is published is a number'),
    (dict(shares={'macs': 'half'}), 'shares of what is published'),
    (dict(author='me'), 'author')])
def test_damage_is_named(tmp_path, changes, message):
    path = write(tmp_path, 'method/net_macs_0.5', **changes)
    with pytest.raises(PolicyError, match=f'net_macs_0.5.json.*{message}.*add_policy'):
        read_published(path)


def test_a_policy_that_nobody_published_is_refused(tmp_path):
    path = write(tmp_path, 'method/net_macs_0.5')
    data = json.loads(path.read_text())
    assert data['facts'] == facts()
    del data['facts'][ZOO]
    path.write_text(json.dumps(data))
    with pytest.raises(PolicyError, match='does not say all that a published policy'):
        read_published(path)
