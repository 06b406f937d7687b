"""Every analytic cost keeps the contract; numbers of the toy network by hand."""

import pytest

from mmcompress.policy import Policy
from mmcompress.testing import TOY_MACS, TOY_PARAMS, CostContract, toy_costs, toy_space


class TestMacs(CostContract):
    cost = 'macs'
    dense = TOY_MACS


class TestParams(CostContract):
    cost = 'params'
    dense = TOY_PARAMS


class TestBops(CostContract):
    cost = 'bops'
    dense = TOY_MACS * 32 * 32


class TestSizeBytes(CostContract):
    cost = 'size_bytes'
    dense = TOY_PARAMS * 4


class TestActivationBytes(CostContract):
    cost = 'activation_bytes'
    # merge reads 40 and writes 32 channels of 64 positions, more than stem (3 * 256
    # + 16 * 64 = 1792), point (40 * 64) and head (64 * 64): 4608 floats.
    dense = 4608 * 4


def test_peak_of_activations():
    # At 8 bits merge takes 4608 bytes, less than head: 32 + 32 channels, 16384.
    assert of(Policy({}, {'merge': (8, 8)}))['activation_bytes'] == 4096 * 4
    # Half of stem's channels: merge reads 24 + 8; depth reads and writes 8 * 64.
    assert of(Policy({'stem': 8}))['activation_bytes'] == (32 + 32) * 64 * 4
    small = dict.fromkeys(('merge', 'head', 'reduce', 'point'), 2)
    # Then depth is the largest but stem and expand: 768 + 1024, 1024 + 128, 2048.
    assert of(Policy(small))['activation_bytes'] == 2048 * 4


def test_layers_without_bits_are_float():
    costs = of(Policy({}, {'fc': (4, 8)}))
    # fc has 2048 weights at one position; all others count 32 x 32.
    assert costs['bops'] == (TOY_MACS - 2048) * 1024 + 2048 * 32
    assert costs['size_bytes'] == (TOY_PARAMS - 2048) * 4 + 1024


def of(policy: Policy) -> dict[str, float]:
    return toy_costs(toy_space((4, 8, 32), (4, 8, 32))).of(policy)


# Weights after each change, in the order of the table in toy_graph:
#   stem 432, reduce 128, expand 1152, depth 144, point 384, merge 1280, head 9216,
#   predict 192, fc 2048.
@pytest.mark.parametrize('widths, macs, params', [
    # reduce 8 -> 4: 64 and 576 instead of 128 and 1152, at 64 positions; its norm
    # has 2 * 4 parameters less.
    ({'reduce': 4}, TOY_MACS - 64 * 640, TOY_PARAMS - 640 - 8),
    # stem 16 -> 8: 216, 64, 576, 72, 192 are half of what they were; merge keeps
    # 24 + 8 of 40 inputs, 1024; two norms lose 2 * 8 each.
    ({'stem': 8}, TOY_MACS - 64 * (216 + 64 + 576 + 72 + 192 + 256),
     TOY_PARAMS - (216 + 64 + 576 + 72 + 192 + 256) - 32),
    # point 24 -> 12: 192, and merge keeps 12 + 16 of 40 inputs, 896.
    ({'point': 12}, TOY_MACS - 64 * (192 + 384), TOY_PARAMS - 576),
    # merge 32 -> 16: 640, and head 4608 at 64 + 16 positions, once in the file.
    ({'merge': 16}, TOY_MACS - 64 * 640 - 80 * 4608, TOY_PARAMS - 640 - 4608),
    # head 32 -> 8: 2304, predict 48, both at 80 positions; fc 4 * 8 * 16 = 512.
    ({'head': 8}, TOY_MACS - 80 * (6912 + 144) - 1536, TOY_PARAMS - 6912 - 144 - 1536),
    # Both sides of a layer: head 16 * 8 * 9 = 1152.
    ({'merge': 16, 'head': 8}, TOY_MACS - 64 * 640 - 80 * (8064 + 144) - 1536,
     TOY_PARAMS - 640 - 8064 - 144 - 1536),
], ids=str)
def test_widths(widths, macs, params):
    costs = of(Policy(widths))
    assert costs['macs'] == macs
    assert costs['params'] == params
    assert costs['bops'] == macs * 1024
    assert costs['size_bytes'] == params * 4


def test_bits():
    # 9216 weights of head at 80 positions with 4 x 8 instead of 32 x 32 bits; its
    # weights take half a byte each. Biases and norms stay in float.
    costs = of(Policy({}, {'head': (4, 8)}))
    assert costs['bops'] == TOY_MACS * 1024 - 80 * 9216 * (1024 - 32)
    assert costs['size_bytes'] == TOY_PARAMS * 4 - 9216 * 3.5
    assert costs['macs'] == TOY_MACS and costs['params'] == TOY_PARAMS


def test_bits_and_widths_together():
    # fc sees 4 * 8 inputs: 512 weights at 8 x 4 bits.
    both, slim = of(Policy({'head': 8}, {'fc': (8, 4)})), of(Policy({'head': 8}))
    assert slim['bops'] - both['bops'] == 512 * (1024 - 32)
    assert slim['size_bytes'] - both['size_bytes'] == 512 * 3
