"""A detector from its images to a policy whose COCO mAP the tools agree on."""

import json
from pathlib import Path

import pytest
from command_lines import REPO, metrics_of

from mmcompress.datasets import DigitsOptions, make_digits

CONFIG = """
_base_ = {base!r}
root = {root!r}
train_dataloader = dict(batch_size=8, dataset=dict(data_root=root))
val_dataloader = dict(dataset=dict(data_root=root))
test_dataloader = dict(dataset=dict(
    data_root=root, ann_file='annotations/calibration.json',
    data_prefix=dict(img='calibration/')))
val_evaluator = dict(ann_file=root + '/annotations/val.json')
test_evaluator = dict(ann_file=root + '/annotations/calibration.json')
load_from = {root!r} + '/../dense/epoch_6.pth'
search_cfg = dict(
    searcher=dict(evaluations=4),
    # All images of the split score, so that tools/test.py can read the same ones;
    # without calibration images the stored statistics are used.
    evaluator=dict(
        images=24, calibration_images=0, dynamic_bn='off',
        dataset=dict(data_root=root)),
    targets=dict(macs=[0.95, 0.8]))
compression = dict(channel=dict(importance='l2'))
"""


@pytest.mark.slow
def test_search_and_test(tool, tmp_path: Path) -> None:
    root = make_digits(tmp_path / 'digits', DigitsOptions(
        images=dict(train=120, calibration=24, val=8), heights=(40, 64),
        contrast=(130, 140)))
    config = tmp_path / 'digits.py'
    config.write_text(CONFIG.format(
        base=str(REPO / 'configs/demo/digits_search.py'), root=str(root)))
    ended = tool('train', config, '--work-dir', tmp_path / 'dense', '--cfg-options',
                 'load_from=None', 'train_cfg.max_epochs=6', 'train_cfg.val_interval=6',
                 'optim_wrapper.optimizer.lr=4e-3', 'param_scheduler.1.T_max=6',
                 cwd=tmp_path)
    assert ended.code == 0, ended
    assert tool('search', config, cwd=tmp_path).code == 0
    work_dir = tmp_path / 'work_dirs/digits'
    policy = work_dir / 'policies/macs_0.95.json'
    score = json.loads(policy.read_text())['facts']['score']
    assert score > 0.01  # it sees something, or equality would say little
    out = tmp_path / 'metrics.json'
    ended = tool('test', config, policy.with_suffix('.pth'), '--policy', policy,
                 '--out', out, cwd=tmp_path)
    assert ended.code == 0, ended
    # Batches of 32 in both; the same images in the same order.
    assert metrics_of(out)['coco/bbox_mAP'] == pytest.approx(score, abs=1e-6)
