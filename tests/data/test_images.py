"""Images for scoring and calibration: disjoint, decoded once, or an error."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel
from mmengine.registry import DATASETS
from mmengine.structures import BaseDataElement
from torch import nn

from mmcompress.data.images import (
    Batch,
    build_dataset,
    forward_raw,
    load_batches,
    load_train_batches,
    pick,
    search_dataset,
)
from mmcompress.errors import DataError


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


@given(st.lists(st.integers(0, 20), min_size=1, max_size=4), st.integers(0, 20),
       st.integers(0, 99))
def test_pick_is_disjoint_sorted_and_reproducible(wanted, spare, seed):
    length = sum(wanted) + spare
    sets = pick(length, wanted, seed)
    assert [len(s) for s in sets] == wanted
    every = np.concatenate(sets)
    assert len(set(every.tolist())) == sum(wanted)
    assert all(0 <= i < length for i in every)
    for one, again in zip(sets, pick(length, wanted, seed)):
        assert np.array_equal(one, again) and (np.diff(one) > 0).all()


def test_pick_depends_on_the_seed():
    one, other = pick(1000, [50], 0)[0], pick(1000, [50], 1)[0]
    assert not np.array_equal(one, other)


def test_too_few_images():
    with pytest.raises(DataError, match=(
            r'6 \+ 5 images are wanted for scoring and calibration, which must not '
            r'overlap, but the dataset has 10. Lower images or calibration_images')):
        pick(10, [6, 5], 0)


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


def test_samples_are_fresh_copies():
    batch = Batch(torch.zeros(1), [BaseDataElement(boxes=torch.zeros(2))])
    batch.samples()[0].pred = 1
    assert 'pred' not in batch.data_samples[0]


def test_raw_outputs():
    class Model(BaseModel):
        def forward(self, inputs, mode):
            return mode, inputs

    inputs = torch.ones(1)
    assert forward_raw(Model(), Batch(inputs, [])) == ('tensor', inputs)


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
