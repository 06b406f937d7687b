"""Copies of models hold what the originals hold."""

import torch
from torch import nn

from mmcompress.surgery.copies import copy_of


def test_a_buffer_that_was_computed_from_parameters_is_a_value_in_the_copy():
    model = nn.Linear(2, 2)
    model.register_buffer('twice', 2 * model.weight)  # no leaf of the graph
    copied = copy_of(model)
    assert torch.equal(copied.twice, model.twice) and copied.twice is not model.twice
    assert copied.twice.is_leaf and not model.twice.is_leaf
