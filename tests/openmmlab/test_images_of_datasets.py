"""Images for scoring and calibration: disjoint, decoded once, or an error."""

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmengine.structures import BaseDataElement
from torch import nn

from mmcompress.errors import DataError
from mmcompress.openmmlab.images import build_dataset, load_batches, search_dataset
from mmcompress.openmmlab.training_images import load_train_batches


@DATASETS.register_module(force=True)
class CountingDataset(BaseDataset):
    """Image i is filled with i; reading is counted."""

    def __init__(self, size: int = 10, **kwargs) -> None:
        self.size, self.reads = size, []
        super().__init__(**{'pipeline': [], **kwargs})

    def load_data_list(self) -> list:
        """One entry an image."""
        return [dict(number=i) for i in range(self.size)]

    def __getitem__(self, index: int) -> dict:
        """As PackInputs would."""
        self.reads.append(index)
        return dict(inputs=torch.full((3, 2, 2), float(index)),
                    data_samples=BaseDataElement(number=index))


class Preprocessor(nn.Module):
    """Stack the images and double them."""

    def forward(self, data: dict, training: bool) -> dict:
        """As a data preprocessor."""
        return dict(inputs=torch.stack(data['inputs']) * 2,
                    data_samples=data['data_samples'])


def test_images_are_decoded_once_in_order():
    dataset = CountingDataset()
    batches = load_batches(dataset, iter([1, 4, 5, 7, 9]), Preprocessor(), 2)
    assert dataset.reads == [1, 4, 5, 7, 9]
    pixels = [b.inputs[:, 0, 0, 0].tolist() for b in batches]
    assert pixels == [[2, 8], [10, 14], [18]]
    numbers = [[s.number for s in b.data_samples] for b in batches]
    assert numbers == [[1, 4], [5, 7], [9]]
    for batch in batches:
        batch.samples()
    assert len(dataset.reads) == 5


def test_search_images_are_training_images_under_the_test_pipeline():
    train = dict(type='A', ann_file='train.json', pipeline=['flip', 'pack'])
    cfg = Config(dict(
        train_dataloader=dict(dataset=dict(
            type='Mix', pipeline=['mosaic'], dataset=dict(
                type='Repeat', dataset=train))),
        test_dataloader=dict(dataset=dict(type='Concat', dataset=dict(
            type='A', ann_file='val.json', pipeline=['pack'])))))
    assert search_dataset(cfg) == dict(train, pipeline=['pack'])
    inner = cfg.train_dataloader.dataset.dataset.dataset
    assert inner.pipeline == ['flip', 'pack']


@pytest.mark.parametrize('cfg, message', [
    (dict(), 'no train_dataloader and test_dataloader'),
    (dict(train_dataloader=dict(dataset=dict(type='A')),
          test_dataloader=dict(dataset=dict(type='A'))), 'has no pipeline'),
])
def test_configs_without_images(cfg, message):
    with pytest.raises(DataError, match=message):
        search_dataset(Config(cfg))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(DataError, match=(
            r'images of mmdet.CocoDataset are missing: .*none.json.*data_root=...')):
        build_dataset(dict(
            type='mmdet.CocoDataset', ann_file=str(tmp_path / 'none.json')))


def test_empty_datasets_are_named():
    with pytest.raises(DataError, match='CountingDataset found no image'):
        build_dataset(dict(type='CountingDataset', size=0, serialize_data=False))
    assert len(build_dataset(dict(type='CountingDataset', size=3))) == 3


def test_training_batches_come_from_the_training_loader():
    cfg = Config(dict(train_dataloader=dict(
        batch_size=4, num_workers=0, dataset=dict(type='CountingDataset'),
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='pseudo_collate'))))
    one, again = (load_train_batches(cfg, Preprocessor(), 2, 5) for _ in range(2))
    assert [len(b.inputs) for b in one] == [4, 4]
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(one, again))
    assert len({s.number for b in one for s in b.data_samples}) == 8
