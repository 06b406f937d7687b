"""A classifier and images made up in memory, for tests of loops in seconds."""

from __future__ import annotations

import numpy as np
from mmengine.dataset import BaseDataset

from ..registry import DATASETS


@DATASETS.register_module()
class TwoClasses(BaseDataset):
    """Random images of 8 x 8 in two classes: dark ones and bright ones.

    Args:
        images (int): How many.
        kwargs: See :class:`mmengine.dataset.BaseDataset`.
    """

    METAINFO = dict(classes=('a', 'b'))

    def __init__(self, images: int, **kwargs) -> None:
        self.images = images
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """Images as arrays, so that nothing is read."""
        rng = np.random.default_rng(0)
        return [dict(img=rng.integers(0, 100 + 100 * (i % 2), (8, 8, 3), np.uint8),
                     img_shape=(8, 8), gt_label=i % 2) for i in range(self.images)]


def small_classifier() -> dict:
    """Config of a residual network for such images, and of its preprocessor."""
    return dict(
        model=dict(
            type='ImageClassifier',
            backbone=dict(type='mmcompress.CifarResNet', depth=8, widths=(8, 8, 8)),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=2, in_channels=8)),
        data_preprocessor=dict(num_classes=2, mean=[0.0] * 3, std=[255.0] * 3))
