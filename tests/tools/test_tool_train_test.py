"""From a searched policy to a trained and tested network, by the command lines."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from command_lines import Job, metrics_of, run_apart

from mmcompress.data.images import pick

COMPRESSED = """
_base_ = {base!r}
model = dict(
    _delete_=True,
    type='mmcompress.Compressed',
    architecture={{{{_base_.model}}}},
    policy={policy!r})
load_from = {checkpoint!r}
"""


def on_the_search_images() -> list[str]:
    """Options that make tools/test.py read the images that the search scored on."""
    # The fixture's evaluator: 200 images to score, 40 to calibrate, of 500, seed 0.
    numbers = pick(500, [200, 40], 0)[0].tolist()
    return ['test_dataloader.dataset.split=train',
            f'test_dataloader.dataset.indices={json.dumps(numbers)}'.replace(' ', ''),
            'test_dataloader.batch_size=50']


@pytest.fixture(scope='module')
def policy(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The policy at half the MACs; what is tested joins the table of its search."""
    mine = tmp_path_factory.mktemp('search') / 'tiny'
    shutil.copytree(searched, mine)
    return mine / 'policies/macs_0.5.json'


@pytest.fixture(scope='module')
def score(policy: Path) -> float:
    """What the search reported for it."""
    return json.loads(policy.read_text())['facts']['score']


def test_score_is_the_one_of_the_search(
        tool, job: Job, policy: Path, score: float, tmp_path: Path) -> None:
    out = tmp_path / 'metrics.json'
    ended = tool(
        'test', job.config, policy.with_suffix('.pth'), '--policy', policy, '--out',
        out, '--work-dir', tmp_path, '--cfg-options', *on_the_search_images(),
        cwd=job.folder)
    assert ended.code == 0, ended
    assert metrics_of(out)['accuracy/top1'] == score


def test_compressed_is_an_ordinary_config(
        tool, job: Job, policy: Path, score: float, tmp_path: Path) -> None:
    config, out = tmp_path / 'slim.py', tmp_path / 'metrics.json'
    config.write_text(COMPRESSED.format(
        base=str(job.config), policy=str(policy),
        checkpoint=str(policy.with_suffix('.pth'))))
    ended = tool(
        'test', config, policy.with_suffix('.pth'), '--out', out, '--cfg-options',
        *on_the_search_images(), cwd=tmp_path)
    assert ended.code == 0, ended
    assert metrics_of(out)['accuracy/top1'] == score


def test_dense_score_is_the_one_of_the_search(
        tool, job: Job, searched: Path, tmp_path: Path) -> None:
    out = tmp_path / 'metrics.json'
    ended = tool(
        'test', job.config, job.checkpoint, '--out', out, '--work-dir', tmp_path,
        '--cfg-options', *on_the_search_images(), cwd=job.folder)
    assert ended.code == 0, ended
    outcome = json.loads((searched / 'outcome.json').read_text())
    # The search recalibrates batch norms for every policy, also the dense one.
    assert metrics_of(out)['accuracy/top1'] == pytest.approx(
        outcome['tradeoff']['dense_score'], abs=3)


def test_resume(
        tool, job: Job, policy: Path, tmp_path: Path) -> None:
    train = ('train', job.config, '--policy', policy, '--work-dir', tmp_path)
    # --resume where there is nothing to resume yet starts from the slim weights.
    ended = tool(*train, '--resume', '--cfg-options', 'train_cfg.max_epochs=1',
                 'optim_wrapper.optimizer.lr=1e-9', cwd=job.folder)
    assert ended.code == 0, ended
    slim = torch.load(policy.with_suffix('.pth'), weights_only=True)['state_dict']
    first = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)['state_dict']
    assert slim.keys() == first.keys()
    weight = 'backbone.layer1.0.conv1.weight'
    torch.testing.assert_close(first[weight], slim[weight], atol=1e-6, rtol=0)

    ended = tool(*train, '--resume', '--cfg-options', 'train_cfg.max_epochs=2',
                 cwd=job.folder)
    assert ended.code == 0, ended
    second = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)
    assert second['meta']['iter'] == 2 * 500 / 25
    assert second['state_dict'][weight].shape == slim[weight].shape


def test_fine_tune_with_a_teacher(
        tool, job: Job, policy: Path, score: float, tmp_path: Path) -> None:
    ended = tool('train', job.config, '--policy', policy, '--distill', '0.5',
                 '--cfg-options', 'train_cfg.max_epochs=3', cwd=job.folder)
    assert ended.code == 0, ended
    folder = job.folder / 'work_dirs/tiny/finetune_macs_0.5'
    out = tmp_path / 'metrics.json'
    ended = tool('test', job.config, folder / 'epoch_3.pth', '--policy', policy,
                 '--out', out, '--work-dir', tmp_path, '--cfg-options',
                 *on_the_search_images(), cwd=job.folder)
    assert ended.code == 0, ended
    assert metrics_of(out)['accuracy/top1'] > score
    saved = torch.load(folder / 'epoch_3.pth', weights_only=False)['state_dict']
    slim = torch.load(policy.with_suffix('.pth'), weights_only=True)['state_dict']
    # The teacher is no part of the checkpoint.
    assert {k: v.shape for k, v in saved.items()} == {
        k: v.shape for k, v in slim.items()}
    log = ''.join(p.read_text() for p in folder.glob('*/*.log'))
    assert 'loss_distill: ' in log


def test_a_dense_checkpoint_is_sliced(
        tool, job: Job, policy: Path, tmp_path: Path) -> None:
    out = tmp_path / 'metrics.json'
    ended = tool('test', job.config, job.checkpoint, '--policy', policy, '--out', out,
                 '--work-dir', tmp_path, cwd=job.folder)
    assert ended.code == 0, ended
    assert 0 <= metrics_of(out)['accuracy/top1'] <= 100


@pytest.mark.slow
def test_user_sees_no_traceback(job: Job, tmp_path: Path) -> None:
    done = run_apart('test', job.config, 'nowhere.pth', cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith('CompressionError: The checkpoint')
    assert 'Traceback' not in done.stderr
