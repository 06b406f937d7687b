"""Kept positions of axes and of groups."""

import numpy as np
import pytest
import torch

from mmcompress.arithmetic.slices import (
    groups_left,
    parts_left,
    size_of,
    take,
    window,
)

FIRST, SOME = np.array([0, 1, 2]), np.array([0, 2, 5])
"""Kept positions: a prefix, and any."""


@pytest.mark.parametrize('kept, view', [(FIRST, True), (SOME, False), (None, True)])
def test_the_first_positions_are_a_view(kept, view):
    weight = torch.rand(6, 4)
    part = take(weight, 0, kept)
    assert (part.data_ptr() == weight.data_ptr()) == view
    assert torch.equal(part, weight if kept is None else weight[kept])
    assert take(None, 0, kept) is None


def test_sizes():
    assert size_of(None, 6) == 6 and size_of(SOME, 6) == 3
    # Positions 0, 2 and 5 are in the groups 0, 1 and 2 of two, 0 and 1 of three.
    assert groups_left(SOME, 2) == 3 and groups_left(SOME, 3) == 2
    # Positions 0 and 2 are of the first three, 5 of the last two, none in between.
    assert parts_left(SOME, [3, 1, 2]) == [2, 0, 1]


def test_window_of_a_group():
    # Positions 1 and 2 of each group of three; group 1 as a whole; nothing gone.
    assert window(np.array([1, 2, 4, 5]), 3).tolist() == [1, 2]
    assert window(np.array([3, 4, 5]), 3) is None
    assert window(np.arange(6), 3) is None and window(None, 3) is None
