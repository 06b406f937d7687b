"""tools/dev/add_policy.py: from a search to a published policy and its metafile."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from command_lines import REPO, Job

import mmcompress as mmc
from mmcompress.policy.files import PolicyFile

WORDS = ('--config', 'method/tiny.py', '--network', 'ResNet-8', '--dataset', 'Digits',
         '--measured', '100 test images', '--checkpoint', 'dense/epoch_5.pth',
         '--command', 'mmcompress search tiny.py')
SCORES = ('--metric', 'accuracy/top1', '--score', '91.504', '--dense-score', '92')
METAFILE = """# A comment
Collections:
  - Name: Method
Models:
  - Name: tiny
    In Collection: Method
    Config: configs/method/tiny.py
"""


@pytest.fixture
def configs(job: Job, tmp_path: Path) -> Path:
    """A method with one config."""
    method = tmp_path / 'configs' / 'method'
    method.mkdir(parents=True)
    shutil.copy(job.config, method)
    (method / 'metafile.yml').write_text(METAFILE)
    return method.parent


@pytest.fixture
def add(tool, configs: Path, monkeypatch, capsys) -> Callable[..., tuple[int, str]]:
    """Run the script; returns its exit status, and what it said if it failed."""
    monkeypatch.syspath_prepend(str(REPO / 'tools/dev'))

    def run(*words: object) -> tuple[int, str]:
        ended = tool('dev/add_policy', *words, *WORDS, '--configs', configs,
                     cwd=configs.parent)
        return ended.code, capsys.readouterr().err
    return run


def with_scores(searched: Path, folder: Path) -> Path:
    """The work dir as a search with --test leaves it: the outcome has the scores."""
    folder = folder / 'tested'
    (folder / 'policies').mkdir(parents=True)
    for name in ('macs_0.5', 'macs_0.75'):
        shutil.copy(searched / 'policies' / f'{name}.json', folder / 'policies')
    data = json.loads((searched / 'outcome.json').read_text())
    data['tradeoff']['test_name'] = 'accuracy/top1'
    for row, score in zip(data['tradeoff']['rows'], (92.0, 91.75, 91.504)):
        row['test'] = score
    (folder / 'outcome.json').write_text(json.dumps(data))
    return folder


def test_from_a_tested_search(add, searched, configs, tmp_path):
    work_dir = with_scores(searched, tmp_path)
    assert add(work_dir, 'macs_0.5')[0] == 0
    entry, = mmc.zoo(folder=configs)
    assert entry.name == 'method/resnet8_digits_macs_0.5'
    assert (entry.score, entry.dense_score) == (91.504, 92.0)
    assert entry.task == 'Image Classification' and entry.searcher == 'Evolution'
    facts = json.loads((work_dir / 'outcome.json').read_text())
    assert entry.weights == facts['facts']['weights'] != ''
    # Shares are those of the search, of the dense costs that it computed.
    dense, _, row = facts['tradeoff']['rows']
    assert entry.shares['macs'] == row['macs_ratio'] <= 0.5
    assert entry.shares['params'] == row['params'] / dense['params']
    original = PolicyFile.load(work_dir / 'policies' / 'macs_0.5.json')
    assert entry.load().policy == original.policy
    assert {**entry.load().facts, 'zoo': 0} == {**original.facts, 'zoo': 0}


def test_the_metafile_is_written_again(add, searched, configs, tmp_path):
    work_dir = with_scores(searched, tmp_path)
    path = configs / 'method' / 'metafile.yml'
    assert add(work_dir, 'macs_0.75')[0] == add(work_dir, 'macs_0.5')[0] == 0
    text = path.read_text()
    assert text.startswith(METAFILE)
    _, small, large = yaml.safe_load(text)['Models']
    assert large['Name'] == 'resnet8_digits_macs_0.75_method'
    assert small == {
        'Name': 'resnet8_digits_macs_0.5_method', 'In Collection': 'Method',
        'Config': 'configs/method/tiny.py',
        'Metadata': {
            'Training Data': 'Digits', 'Measured': '100 test images',
            'Policy': 'configs/method/policies/resnet8_digits_macs_0.5.json',
            'FLOPs': small['Metadata']['FLOPs'],
            'Parameters': small['Metadata']['Parameters']},
        'Results': [{'Task': 'Image Classification', 'Dataset': 'Digits',
                     'Metrics': {'Top 1 Accuracy': 91.5}}]}
    assert add(work_dir, 'macs_0.5')[0] == 0 and path.read_text() == text


def test_from_a_policy_file_alone(add, searched, configs, tmp_path):
    path = Path(shutil.copy(searched / 'policies/macs_0.5.json', tmp_path))
    code, said = add(path)
    assert code == 1 and 'scores of macs_0.5 on test images are not known' in said
    assert not list(configs.glob('*/policies/*'))
    assert add(path, *SCORES)[0] == 0
    entry, = mmc.zoo(folder=configs)
    assert (entry.score, entry.metric, entry.weights) == (91.504, 'accuracy/top1', '')


def test_what_does_not_fit_is_refused(add, searched, configs, tmp_path):
    assert 'name the target' in add(searched, *SCORES)[1]
    path = Path(shutil.copy(searched / 'policies/macs_0.5.json', tmp_path))
    data = json.loads(path.read_text())
    data['facts']['costs']['macs'] += 1
    path.write_text(json.dumps(data))
    assert 'The file states macs = ' in add(path, *SCORES)[1]
    tiny = configs / 'method' / 'tiny.py'
    tiny.write_text(tiny.read_text().replace('depth=8', 'depth=14'))
    assert 'belongs to another model' in add(path, *SCORES)[1]
    tiny.unlink()
    assert 'There is no config' in add(path, *SCORES)[1]
    assert not list(configs.glob('*/policies/*'))
    assert (configs / 'method' / 'metafile.yml').read_text() == METAFILE
