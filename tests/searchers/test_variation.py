"""Crossover and mutation of rows."""

import numpy as np

from mmcompress.searchers.variation import Crossover, Redraw, Steps, reflect
from mmcompress.testing import toy_space

SPACE = toy_space((2, 4, 8), (4, 8))
LOW, HIGH = (np.tile(row, (400, 1)) for row in (SPACE.lowest, SPACE.highest))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_crossover_takes_half_of_the_columns_from_either_parent():
    free = SPACE.free
    child = Crossover()(LOW, HIGH, rng())
    assert ((child == LOW) | (child == HIGH)).all()
    assert abs((child == HIGH)[:, free].mean() - 0.5) < 0.05


def test_crossover_at_a_rate_leaves_the_other_children_alone():
    child = Crossover(0.3)(LOW, HIGH, rng())
    assert abs((child != LOW).any(1).mean() - 0.3) < 0.1
    assert (Crossover(0.0)(LOW, HIGH, rng()) == LOW).all()


def test_redrawn_columns_take_any_choice():
    mutants = Redraw(SPACE, 0.2)(HIGH, rng())
    for policy in SPACE.decode(mutants[:20]):
        SPACE.check(policy)
    assert len(np.unique(mutants[:, 0])) == len(SPACE.choices[0])
    # One column in any case, which may draw what it was: a fifth, and a choice less.
    assert 0.1 < (mutants != HIGH)[:, SPACE.free].mean() < 0.25


def test_steps_change_one_column_at_least_unless_told_otherwise():
    middle = (LOW + HIGH) / 2
    changed = Steps(SPACE, 0.0)(middle, rng()) != middle
    assert (changed.sum(1) == 1).all() and not changed[:, HIGH[0] == LOW[0]].any()
    assert (Steps(SPACE, 0.0, at_least_one=False)(middle, rng()) == middle).all()
    moved = Steps(SPACE, 1.0, step=0.1)(middle, rng())[:, SPACE.free]
    reach = (HIGH - LOW)[:, SPACE.free]
    assert abs(((moved - middle[:, SPACE.free]) / reach).std() - 0.1) < 0.01


def test_what_leaves_the_range_is_mirrored():
    reach = SPACE.highest - SPACE.lowest
    rows = np.stack([SPACE.lowest - 0.25 * reach, SPACE.highest + 0.25 * reach])
    expected = [SPACE.lowest + 0.25 * reach, SPACE.highest - 0.25 * reach]
    np.testing.assert_allclose(reflect(SPACE, rows), expected)
