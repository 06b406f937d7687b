"""The program ``mmcompress zoo``: tools/policies.py."""

import json

import pytest
from published_policies import write

import mmcompress as mmc
from mmcompress.__main__ import main


@pytest.fixture
def run(capsys):
    """Run the program; returns its exit status or message, and what it printed."""
    def run_it(*words: str) -> tuple[object, str]:
        with pytest.raises(SystemExit) as end:
            main(['zoo', *words])
        return end.value.code, capsys.readouterr().out
    return run_it


@pytest.fixture
def few(tmp_path, monkeypatch):
    """Two policies in place of those of this tree."""
    for name in ('legr/resnet8_macs_0.5', 'swp/yolox_macs_0.5'):
        write(tmp_path / 'configs', name)
    monkeypatch.setattr('mmcompress.api.zoo.shipped', lambda name: tmp_path / name)
    return tmp_path


def test_all_policies_are_listed(run):
    code, printed = run()
    assert code == 0
    for entry in mmc.zoo():
        line, = (x for x in printed.splitlines() if x.split()[:1] == [entry.name])
        assert entry.network in line and f'{100 * entry.shares["macs"]:.1f} %' in line
        assert line.endswith(f'policies/{entry.path.name}')


def test_a_pattern(run, few):
    code, printed = run('legr')
    assert code == 0 and 'legr/resnet8_macs_0.5' in printed and 'swp' not in printed


def test_json_is_all_that_is_known(run, few):
    code, printed = run('--json')
    data = json.loads(printed)
    assert code == 0 and data == [p.to_dict() for p in mmc.zoo()]
    assert [(p['name'], p['score']) for p in data] == [
        ('legr/resnet8_macs_0.5', 91.5), ('swp/yolox_macs_0.5', 91.5)]


def test_nothing_found_is_a_sentence(run, few, tmp_path):
    code, printed = run('resnet*0.75')
    assert code.startswith("No published policy has 'resnet*0.75' in its name")
    assert printed == ''
    for path in tmp_path.glob('configs/*/policies/*.json'):
        path.unlink()
    assert run() == ('No policies have been published in configs/*/policies/.', '')


def test_a_damaged_file_is_named(run, few):
    path = write(few / 'configs', 'swp/yolox_macs_0.5', score='high')
    code, printed = run()
    assert code.startswith(f'error: {path} does not say all') and printed == ''
