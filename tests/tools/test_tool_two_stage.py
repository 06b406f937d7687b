"""A two-stage detector with masks, from random weights to files, at a tiny size."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_lines import REPO

from mmcompress.openmmlab.datasets import DigitsOptions, make_digits
from mmcompress.report import load_results

CONFIGS = REPO / 'configs/demo'
SMALL = ['search_cfg.searcher.type=TwoStage', 'search_cfg.searcher.evaluations=2',
         'search_cfg.prices.type=ReconstructionPrices', 'search_cfg.prices.images=4',
         'compress_cfg.repeats=3']


@pytest.mark.slow
def test_boxes_and_masks_of_the_files(tool, tmp_path: Path) -> None:
    make_digits(tmp_path / 'work_dirs/digits', DigitsOptions(
        images=dict(train=24, calibration=2, val=6)))
    ended = tool('train', CONFIGS / 'mask-rcnn_r18_digits.py', '--work-dir', 'dense',
                 '--cfg-options', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=2',
                 'train_dataloader.batch_size=4', cwd=tmp_path)
    assert ended.code == 0, ended
    ended = tool('compress', CONFIGS / 'compress_mask-rcnn_r18_digits.py',
                 '--work-dir', 'slim', '--targets', 'macs=0.8', '--epochs', 0,
                 '--cfg-options', *SMALL, 'load_from=dense/epoch_1.pth', cwd=tmp_path)
    assert ended.code == 0, ended
    results = load_results(tmp_path / 'slim')
    searched, file = (
        results['macs_0.8', stage] for stage in ('as searched', 'file'))
    assert searched.costs['macs'] <= 0.8 * results['dense', 'as trained'].costs['macs']
    assert file.metric == pytest.approx(searched.metric, abs=1e-3)
    # Masks are measured beside boxes, by the file as by the network.
    assert file.others['coco/segm_mAP'] == pytest.approx(
        searched.others['coco/segm_mAP'], abs=1e-3)
    names = {path.name for path in (tmp_path / 'slim/networks/macs_0.8').glob('*.onnx')}
    assert names == {'net.onnx', 'net.roi_head.onnx', 'net.mask_head.onnx'}
