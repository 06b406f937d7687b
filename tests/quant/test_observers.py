"""What is drawn from activations, and what weighs it."""

from __future__ import annotations

import torch
from torch import nn

from mmcompress.arithmetic.ranges import activation_range
from mmcompress.data.images import Batch
from mmcompress.quant.calibration import observe, output_gains, samples


def two_channels() -> tuple[nn.Module, list[Batch]]:
    """Channel 0 is large and hardly read, channel 1 small and all that is read."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4, 2, 16, 16, generator=generator) * torch.tensor(
        [100.0, 1.0])[:, None, None]
    layer = nn.Conv2d(2, 1, 1)
    layer.weight.data = torch.tensor([1e-4, 1.0])[None, :, None, None]
    return nn.Sequential(layer).eval(), [Batch(x, [])]


def test_an_error_counts_as_it_changes_outputs_over_their_variance():
    layer = nn.Conv2d(4, 2, 3, groups=2)
    layer.weight.data = torch.tensor([1.0, 2.0]).reshape(1, 2, 1, 1).expand(2, 2, 3, 3)
    # Nine places of the window; groups of two inputs and one output each.
    assert output_gains(layer, torch.tensor([1.0, 4.0])).tolist() == [9, 36, 2.25, 9]


def test_the_output_observer_clips_what_nobody_reads():
    model, batches = two_channels()
    seen = observe(model, ['0'], batches)
    by_value = samples(seen, {'0': '0'})['0']
    by_output = samples(seen, {'0': '0'}, {'0': model[0]})['0']
    wide, _ = activation_range(by_value, 8, 'mse')
    narrow, _ = activation_range(by_output, 8, 'output')
    # By value all of 0 to 100 counts; by output 0 to 1 and little else.
    assert wide > 0.3 and narrow < 0.02
    assert (by_value.values == by_output.values).all()
