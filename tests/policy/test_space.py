"""Policies and rows of numbers are the same thing, for every space."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmcompress.errors import PolicyError
from mmcompress.policy import (
    FLOAT,
    OUT,
    Bits,
    ChannelUnit,
    Member,
    Policy,
    SearchSpace,
    width_choices,
)
from mmcompress.testing import toy_graph, toy_space


def unit(width: int, granularity: int = 1) -> ChannelUnit:
    return ChannelUnit(
        'u', (Member('l', OUT, np.arange(width)[:, None]),), granularity)


def column(low: int, high: int):
    return st.sets(st.integers(low, high), min_size=1, max_size=5).map(
        lambda s: tuple(sorted(s)))


@st.composite
def spaces(draw) -> SearchSpace:
    units, layers = draw(st.integers(0, 3)), draw(st.integers(1, 3))
    return SearchSpace(
        tuple(f'u{i}' for i in range(units)), tuple(f'l{i}' for i in range(layers)),
        tuple([draw(column(1, 64)) for _ in range(units)]
              + [draw(column(2, FLOAT)) for _ in range(2 * layers)]))


@st.composite
def spaces_and_rows(draw):
    space = draw(spaces())
    rows = [[draw(st.sampled_from(c)) for c in space.choices]
            for _ in range(draw(st.integers(0, 4)))]
    return space, np.array(rows, int).reshape(-1, len(space))


@pytest.mark.parametrize('width, granularity, divisor, ratio, expected', [
    (32, 1, 8, 0.1, (8, 16, 24, 32)),
    (32, 1, 8, 0.3, (16, 24, 32)),        # at least 9.6
    (20, 1, 8, 0.1, (8, 16, 20)),         # dense is always allowed
    (12, 1, 8, 0.25, tuple(range(3, 13))),  # too narrow for steps of 8
    (4, 8, 8, 0.1, (1, 2, 3, 4)),         # 8 channels a piece: all multiples
    (8, 4, 8, 0.1, (2, 4, 6, 8)),         # 4 channels a piece: even ones
    (10, 1, 1, 0.3, tuple(range(3, 11))),  # 0.3 * 10 is 3, not 3.0000000000000004
    (1, 1, 8, 0.1, (1,)),
])
def test_width_choices(width, granularity, divisor, ratio, expected):
    assert width_choices(unit(width, granularity), divisor, ratio) == expected


@given(st.integers(1, 300), st.integers(1, 16), st.integers(1, 32),
       st.floats(0, 1, exclude_min=True))
def test_width_choices_hold_for_every_unit(width, granularity, divisor, ratio):
    choices = width_choices(unit(width, granularity), divisor, ratio)
    assert choices[-1] == width and choices[0] >= 1
    assert list(choices) == sorted(set(choices))
    for choice in choices[:-1]:
        assert choice >= ratio * width - 1e-6
        if width * granularity >= 2 * divisor:
            assert choice * granularity % divisor == 0


@given(spaces_and_rows())
def test_decode_inverts_encode(case):
    space, rows = case
    policies = space.decode(rows)
    assert len(policies) == len(rows)
    again = space.encode(policies)
    assert again.dtype == np.int64 and np.array_equal(again, rows)
    assert space.decode(again) == policies
    for policy, row in zip(policies, rows):
        space.check(policy)
        assert np.array_equal(space.encode(policy), row[None])
        assert not any(bits.is_float for bits in policy.bits.values())


@given(spaces(), st.data())
def test_snap_moves_to_the_nearest_choice(space, data):
    rows = data.draw(arrays(
        float, (3, len(space)), elements=st.floats(-10, 100, allow_nan=False)))
    snapped = space.snap(rows)
    assert np.array_equal(space.snap(snapped), snapped)
    for i, choices in enumerate(space.choices):
        for value, moved in zip(rows[:, i], snapped[:, i]):
            assert moved in choices
            nearest = min(abs(c - value) for c in choices)
            assert abs(moved - value) <= nearest + 1e-9


def test_ties_go_down():
    space = SearchSpace(('u',), (), ((4, 8, 16),))
    assert space.snap([[6.0], [12.0], [12.1]]).ravel().tolist() == [4, 8, 16]


def test_ends_and_free_columns():
    space = toy_space({'stem': (4, 8, 32)}, (8,))
    assert len(space) == 5 + 2 * 9
    assert space.lowest[:5].tolist() == [2, 2, 4, 4, 4]  # a tenth, even
    assert space.highest[:5].tolist() == [16, 8, 24, 32, 32]
    # The five widths and the stem's weight bits; activations have one choice.
    assert space.free.tolist() == [0, 1, 2, 3, 4, 5]
    assert space.choices[5] == (4, 8, 32)
    assert space.choices[6:14] == ((FLOAT,),) * 8
    assert space.choices[14:] == ((8,),) * 9


def test_without_pruning_widths_are_dense():
    space = toy_space((4, 4, 8), prune=False)
    assert space.choices[:5] == ((16,), (8,), (24,), (32,), (32,))
    assert space.choices[5] == (4, 8)


def test_what_a_policy_leaves_out_is_dense_and_float():
    space = toy_space((2, 32), (8, 32))
    row = space.encode(Policy({'reduce': 4}, {'fc': Bits(2, 8)}))[0]
    assert row[:5].tolist() == [16, 4, 24, 32, 32]
    assert row[5:14].tolist() == [32] * 8 + [2]
    assert row[14:].tolist() == [32] * 8 + [8]
    assert space.encode([]).shape == (0, len(space))


@pytest.mark.parametrize('policy, message', [
    (Policy({'nope': 4}), "names the unit 'nope', which this model does not have. "
                          'Known units start with: stem, reduce, point'),
    (Policy({}, {'nope': (8, 8)}), "names the layer 'nope'.*Known layers start with"),
    (Policy({'stem': 5}), "^width 5 of 'stem' is outside the search space; allowed: "
                          '2, 4, 6, .*16. Change the policy or widen'),
    (Policy({'stem': 18}), "width 18 of 'stem'"),
    (Policy({}, {'fc': (3, 8)}), "^weight bits 3 of 'fc' .* allowed: 2, 32"),
    (Policy({}, {'stem': (2, 5)}), "^activation bits 5 of 'stem' .* allowed: 8, 32"),
])
def test_check_names_what_is_outside(policy, message):
    space = toy_space((2, 32), (8, 32))
    with pytest.raises(PolicyError, match=message):
        space.check(policy)


def test_check_accepts_dense_and_cheapest():
    space = toy_space((2, 32), (8, 32))
    space.check(Policy())
    for row in (space.lowest, space.highest):
        space.check(space.decode(row)[0])


@pytest.mark.parametrize('choices', [
    ((1, 2),), ((2, 1), (32,), (32,)), ((1, 1), (32,), (32,)), ((), (32,), (32,))])
def test_a_space_has_ascending_choices_for_every_column(choices):
    with pytest.raises(AssertionError):
        SearchSpace(('u',), ('l',), choices)


def test_order_is_that_of_the_graph():
    graph = toy_graph()
    space = SearchSpace.from_graph(graph)
    assert space.units == tuple(u.name for u in graph.units)
    assert space.layers == tuple(layer.name for layer in graph.layers)


def test_a_grid_of_shares():
    def unit(width):
        return ChannelUnit('u', (Member('u', OUT, np.arange(width)[:, None]),))

    # .25, .5, .75 and 1 of 16; of 10: 2.5, 5, 7.5 and 10, ties go down.
    assert width_choices(unit(16), 1, 0.25, 0.25) == (4, 8, 12, 16)
    assert width_choices(unit(10), 1, 0.25, 0.25) == (3, 5, 7, 10)
    # Nearest multiples of 8; the dense width stays whatever the grid.
    assert width_choices(unit(64), 8, 0.1, 0.3) == (8, 24, 48, 64)
    assert width_choices(unit(10), 1, 0.3, 0.3) == (3, 6, 9, 10)


def test_units_that_stay_dense():
    space = SearchSpace.from_graph(toy_graph(), divisor=2, dense=['stem', 'me*'])
    widths = dict(zip(space.units, space.choices))
    assert widths['stem'] == (16,) and widths['merge'] == (32,)
    assert len(widths['point']) > 1
    with pytest.raises(PolicyError, match="'step' in dense matches no unit"):
        SearchSpace.from_graph(toy_graph(), dense=['step'])


def test_the_space_knows_the_columns_of_a_row():
    space = SearchSpace(
        ('a', 'b'), ('l', 'm', 'n'), ((4, 8), (16,), *((2, 8),) * 3, *((4, 32),) * 3))
    row = np.arange(8)
    assert row[space.widths].tolist() == [0, 1]
    assert row[space.weight_bits].tolist() == [2, 3, 4]
    assert row[space.activation_bits].tolist() == [5, 6, 7]
    assert row[space.bits].tolist() == [2, 3, 4, 5, 6, 7]
    parts = space.split(np.tile(row, (2, 3, 1)))
    assert [part.shape for part in parts] == [(2, 3, 2), (2, 3, 3), (2, 3, 3)]
    assert space.choices[space.activation_bits] == ((4, 32),) * 3
    # Parts are views: an encoder writes through them.
    parts = space.split(row)
    parts[1][:] = 9
    assert row.tolist() == [0, 1, 9, 9, 9, 5, 6, 7]
