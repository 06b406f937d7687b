"""What the front door makes of values that are easily mistaken."""

import pytest
import torch
from test_front_door import IMAGES, Small, prepared

import mmcompress as mmc
from mmcompress.errors import CompressionError


@pytest.mark.parametrize('name', ['second.weight', 'norm.running_var', 'fc.bias'])
def test_weights_that_are_no_numbers(name):
    model = Small().eval()
    model.state_dict()[name][0] = torch.nan
    with pytest.raises(CompressionError, match=(
            f'1 tensors of Small hold NaN or infinity, e.g. {name}: its training '
            'diverged, or the file is damaged. Load another')):
        prepared(model)


def test_one_name_need_not_be_in_a_list():
    units = [unit.name for unit in prepared().graph.units]
    session = prepared(channel=dict(divisor=4, dense='*'))
    assert len(units) == 2 and not len(session.space.free)
    kept = prepared(channel=dict(divisor=4, dense=units[0]))
    assert len(kept.space.free) == 1
    layers = prepared(quant=dict(bits=[4, 8], keep8='first', skip='f*'))
    assert layers.space.choices != prepared(quant=dict(bits=[4, 8])).space.choices


@pytest.mark.parametrize('images', [0, -5, 2.5])
def test_numbers_of_images(images):
    with pytest.raises(CompressionError, match=(
            r'images of .* is a whole number of at least 1, not')):
        mmc.prepare(Small(), torch.zeros(1, 3, 16, 16), IMAGES.split(8), images=images)
