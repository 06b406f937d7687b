"""A search loop over a small classifier and images made up in memory."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, init_default_scope

from mmcompress.engine.cli import search_runner
from mmcompress.engine.search_loop import PolicySearchLoop


@DATASETS.register_module()
class Speckled(BaseDataset):
    """Eighty random images of two classes."""

    METAINFO = dict(classes=('a', 'b'))

    def load_data_list(self) -> list[dict]:
        """Images as arrays, so that nothing is read."""
        rng = np.random.default_rng(0)
        return [dict(img=rng.integers(0, 100 + 100 * (i % 2), (8, 8, 3), np.uint8),
                     img_shape=(8, 8), gt_label=i % 2) for i in range(80)]


def _make(work_dir: Path, **search) -> PolicySearchLoop:
    init_default_scope('mmpretrain')
    dataset = dict(type='Speckled', pipeline=[dict(type='PackInputs')])
    loader = dict(batch_size=10, num_workers=0, dataset=dataset)
    search = dict(
        dict(evaluator=dict(
            metric='accuracy/top1', images=40, calibration_images=10),
            save_checkpoints=False), **search)
    cfg = Config(dict(
        model=dict(
            type='ImageClassifier',
            backbone=dict(type='mmcompress.CifarResNet', depth=8, widths=(8, 8, 8)),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=2, in_channels=8)),
        data_preprocessor=dict(num_classes=2, mean=[0.0] * 3, std=[255.0] * 3),
        train_dataloader=loader, test_dataloader=loader,
        val_evaluator=dict(type='Accuracy', topk=(1,)),
        compression=dict(input_shape=(3, 8, 8), channel=dict(divisor=1)),
        randomness=dict(seed=0), work_dir=str(work_dir), search_cfg=search,
        default_scope='mmpretrain', experiment_name=work_dir.name))
    return PolicySearchLoop(search_runner(cfg), **search)


@pytest.fixture(scope='session')
def make_loop() -> Callable[..., PolicySearchLoop]:
    """``make_loop(work_dir, **search_cfg)``."""
    return _make
