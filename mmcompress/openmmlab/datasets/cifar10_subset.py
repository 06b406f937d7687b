"""CIFAR-10's batch files when they hold only some of the images."""

import contextlib
import io

with contextlib.redirect_stdout(io.StringIO()):  # it prints that OneDL is absent
    from mmpretrain.datasets import CIFAR10

from mmcompress.registry import DATASETS


@DATASETS.register_module()
class Cifar10Subset(CIFAR10):
    """CIFAR-10 without the official checksums, which a subset cannot match.

    Nothing is ever downloaded: the official images would replace the subset. Use
    ``indices`` to take fewer images still. The other arguments are those of
    :class:`mmpretrain.datasets.CIFAR10`.

    Args:
        data_root (str): Folder that holds ``cifar-10-batches-py``.
        split (str): ``'train'`` or ``'test'``. Defaults to ``'train'``.
    """

    train_list = [[f'data_batch_{i}', None] for i in range(1, 6)]
    test_list = [['test_batch', None]]
    meta = dict(CIFAR10.meta, md5=None)

    def __init__(self, data_root: str, split: str = 'train', **kwargs) -> None:
        super().__init__(data_root=data_root, split=split, download=False, **kwargs)
