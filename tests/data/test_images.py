"""Batches in memory, and which images go into them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.structures import BaseDataElement

from mmcompress.data.images import Batch, pick
from mmcompress.errors import DataError


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


def test_samples_are_fresh_copies():
    batch = Batch(torch.zeros(1), [BaseDataElement(boxes=torch.zeros(2))])
    batch.samples()[0].pred = 1
    assert 'pred' not in batch.data_samples[0]
