"""The worked example on a dataset of one's own, at a tiny size, by its two configs."""

import json
from pathlib import Path

import pytest
from command_lines import REPO

from mmcompress.report import load_results

CONFIGS = REPO / 'configs/bccd'
SMALL = [f'{name}_dataloader.{option}' for name in ('train', 'val', 'test')
         for option in ('num_workers=0', 'persistent_workers=False')]
TRAIN = ['train_dataloader.dataset.indices=24', *SMALL]
SEARCH = ['search_cfg.searcher.type=TwoStage', 'search_cfg.searcher.evaluations=2',
          'search_cfg.prices.type=ReconstructionPrices', 'search_cfg.prices.images=4',
          'compress_cfg.repeats=3', 'compress_cfg.calibration_images=4']


@pytest.mark.slow
def test_from_weights_of_the_zoo_to_a_file(
        tool, shared_data: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv('DATA_ROOT', str(shared_data))
    dense, slim = tmp_path / 'dense', tmp_path / 'slim'
    ended = tool('train', CONFIGS / 'yolox-nano_bccd.py', '--work-dir', dense,
                 '--cfg-options', *TRAIN, 'train_cfg.max_epochs=1',
                 'train_cfg.val_interval=2', cwd=tmp_path)
    assert ended.code == 0, ended
    ended = tool('compress', CONFIGS / 'compress_yolox-nano_bccd.py', '--work-dir',
                 slim, '--targets', 'macs=0.8', '--epochs', 1, '--int8',
                 '--cfg-options', *TRAIN, *SEARCH, f'load_from={dense}/epoch_1.pth',
                 cwd=tmp_path)
    assert ended.code == 0, ended
    results = load_results(slim)
    assert [(row.network, row.stage) for row in results.rows[-5:]] == [
        ('macs_0.8', stage) for stage in (
            'as searched', 'fine-tuned', 'file', '8 bits', '8-bit file')]
    assert results['macs_0.8', '8-bit file'].size_bytes < \
        0.6 * results['dense', 'file'].size_bytes
    tuned = json.loads((slim / 'networks/macs_0.8/tuned.json').read_text())
    assert tuned['images'] == '87 validation images'
