"""No tool runs what is in a checkpoint, by whatever road it gets to it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from command_lines import Job, metrics_of, run_apart
from malicious import poisoned

SUPERNET = """
_base_ = {base!r}
load_from = None
compression = dict(channel=dict(importance='index', divisor=1, step=0.25))
train_cfg = dict(
    _delete_=True, type='mmcompress.SupernetTrainLoop', max_epochs=1,
    teacher={bad!r})
"""
PRETRAINED = """
_base_ = {base!r}
load_from = None
model = dict(backbone=dict(init_cfg=dict(
    type='Pretrained', checkpoint={bad!r}, prefix='backbone')))
"""
COMPRESSED = """
_base_ = {base!r}
model = dict(_delete_=True, type='mmcompress.Compressed',
             architecture={{{{_base_.model}}}}, policy={policy!r})
load_from = {bad!r}
"""
LOADING = """
_base_ = {base!r}
custom_imports = dict(imports=['mmcompress', 'my_model'])
model = dict(type='Loading')
load_from = {good!r}
"""
MODEL = """
import torch
from mmengine.registry import MODELS
from mmpretrain.models import ImageClassifier
@MODELS.register_module()
class Loading(ImageClassifier):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        torch.load({bad!r}, map_location='cpu', weights_only=False)
"""


@pytest.fixture
def bad(job: Job, tmp_path: Path) -> tuple[Path, Path]:
    """The trained checkpoint with a call in it, and the mark that it makes."""
    path = tmp_path / 'bad.pth'
    return path, poisoned(job.checkpoint, path)


@pytest.fixture
def policy(searched: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A policy with a checkpoint beside it that has a call in it, and its mark."""
    source = searched / 'policies/macs_0.5.json'
    path = tmp_path / 'macs_0.5.json'
    shutil.copy(source, path)
    mark = poisoned(source.with_suffix('.pth'), path.with_suffix('.pth'))
    return path, mark


def refused(tool, mark: Path, *words: object, job: Job, tmp_path: Path) -> None:
    """A tool must end in the sentence, and the mark must not be there."""
    ended = tool(*words, '--work-dir', tmp_path / 'w', cwd=job.folder)
    assert not mark.exists()
    assert ended.code == 1, ended
    assert 'it asks for os.makedirs' in ended.message
    assert 'add --trust-checkpoint' in ended.message
    assert not list((tmp_path / 'w').rglob('*.pth'))


@pytest.mark.parametrize('words', [
    ('search', '{config}', '--cfg-options', 'load_from={bad}'),
    ('search', '{config}', '--workers', '2', '--cfg-options', 'load_from={bad}'),
    ('search', '{config}', '--test', '--cfg-options', 'load_from={bad}'),
    ('search', '{config}', '--target', 'macs=0.6', '--cfg-options', 'load_from={bad}'),
    ('test', '{config}', '{bad}'),
    ('test', '{config}', '{bad}', '--policy', '{policy}'),
    ('test', '{config}', '{beside}', '--policy', '{policy}'),
    ('export', '{config}', '{bad}'),
    ('export', '{config}', '{bad}', '--policy', '{policy}'),
    ('export', '{config}', '{beside}', '--policy', '{policy}'),
    ('train', '{config}', '--cfg-options', 'load_from={bad}'),
    ('train', '{config}', '--checkpoint', '{bad}'),
    ('train', '{config}', '--resume', '{bad}'),
    ('train', '{config}', '--policy', '{policy}'),
    ('train', '{config}', '--policy', '{policy}', '--checkpoint', '{bad}'),
    ('train', '{config}', '--policy', '{policy}', '--resume', '{beside}'),
    ('train', '{config}', '--policy', '{policy}', '--checkpoint', '{good}',
     '--distill', '--cfg-options', 'load_from={bad}'),
], ids=lambda words: ' '.join(words).replace('{config} ', ''))
def test_every_road(
    words: tuple[str, ...], tool, job: Job, bad, policy, tmp_path: Path
) -> None:
    path, mark = bad
    names = dict(config=job.config, good=job.checkpoint, bad=path, policy=policy[0],
                 beside=policy[0].with_suffix('.pth'))
    words = [word.format(**names) for word in words]
    refused(tool, mark, *words, job=job, tmp_path=tmp_path)
    assert not policy[1].exists()


def test_resuming_the_newest(tool, job: Job, bad, tmp_path: Path) -> None:
    (tmp_path / 'w').mkdir()
    (tmp_path / 'w/last_checkpoint').write_text(str(bad[0]))
    refused(tool, bad[1], 'train', job.config, '--resume', job=job, tmp_path=tmp_path)


@pytest.mark.parametrize('text', [SUPERNET, PRETRAINED, COMPRESSED])
def test_checkpoints_of_configs(
    text: str, tool, job: Job, bad, searched: Path, tmp_path: Path
) -> None:
    config = tmp_path / 'mine.py'
    config.write_text(text.format(
        base=str(job.config), bad=str(bad[0]),
        policy=str(searched / 'policies/macs_0.5.json')))
    refused(tool, bad[1], 'train', config, job=job, tmp_path=tmp_path)


def test_models_that_load_by_themselves(
        tool, job: Job, bad, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / 'my_model.py').write_text(MODEL.format(bad=str(bad[0])))
    monkeypatch.syspath_prepend(tmp_path)
    config = tmp_path / 'mine.py'
    config.write_text(LOADING.format(base=str(job.config), good=str(job.checkpoint)))
    for words in (('search', config), ('train', config),
                  ('test', config, job.checkpoint), ('export', config, job.checkpoint)):
        refused(tool, bad[1], *words, job=job, tmp_path=tmp_path)


def test_workers_are_told_to_trust(job: Job, bad, tmp_path: Path) -> None:
    done = run_apart(
        'search', job.config, '--trust-checkpoint', '--workers', '2', '--work-dir',
        tmp_path / 'w', '--cfg-options', f'load_from={bad[0]}',
        'search_cfg.searcher.evaluations=2', cwd=job.folder)
    # It is 1 if a worker ends with another code than 0.
    assert done.returncode == 0, done.stderr
    assert bad[1].is_dir()


def test_a_trusted_checkpoint_is_as_good_as_another(
        tool, job: Job, bad, tmp_path: Path) -> None:
    found = []
    for path, flags in (job.checkpoint, ()), (bad[0], ('--trust-checkpoint',)):
        out = tmp_path / 'metrics.json'
        ended = tool('test', job.config, path, *flags, '--out', out, '--work-dir',
                     tmp_path / 'w', cwd=job.folder)
        assert ended.code == 0, ended
        found.append(metrics_of(out))
    assert bad[1].is_dir() and found[0] == found[1]


def test_a_training_resumes(tool, job: Job, tmp_path: Path) -> None:
    """Its checkpoint holds an optimiser, schedules, logs and averaged weights."""
    average = "custom_hooks=[dict(type='EMAHook')]"
    config = tmp_path / 'mine.py'
    config.write_text(f'_base_ = {str(job.config)!r}\n{average}\n')
    train = ('train', config, '--work-dir', tmp_path / 'w')
    assert tool(*train, '--cfg-options', 'train_cfg.max_epochs=1',
                cwd=job.folder).code == 0
    held = torch.load(tmp_path / 'w/epoch_1.pth', weights_only=False)
    assert {'optimizer', 'message_hub', 'ema_state_dict', 'param_schedulers'} \
        <= held.keys() and held['message_hub']['log_scalars']
    ended = tool(*train, '--resume', '--cfg-options', 'train_cfg.max_epochs=2',
                 cwd=job.folder)
    assert ended.code == 0, ended
    assert (tmp_path / 'w/epoch_2.pth').is_file()
