"""How often each channel is trained."""

import numpy as np
import pytest

from mmcompress.supernet.draws import drawn_policies
from mmcompress.testing import toy_space


def counts(space, unit, iterations, full, **options):
    """Uses of every channel of a unit."""
    column = space.units.index(unit)
    found = np.zeros(space.choices[column][-1])
    for iteration in range(iterations):
        found += full
        for policy in drawn_policies(space, 0, iteration, **options).values():
            found[:policy.widths[unit]] += 1
    return found


@pytest.mark.parametrize('random', [1, 3])
def test_channels_are_used_as_often_as_expected(random):
    space, n = toy_space(divisor=1), 2000
    choices = np.array(space.choices[space.units.index('merge')])
    found = counts(space, 'merge', n, True, random=random)
    channel = np.arange(1, choices[-1] + 1)
    at_least = (choices >= channel[:, None]).mean(1)
    # E_j = 1 + [j <= c_min] + k * #{widths >= j} / M.
    expected = 1 + (channel <= choices[0]) + random * at_least
    # A binomial of n draws deviates by sqrt(n p (1 - p)), here by 4.5 at most.
    error = np.sqrt(n * random * at_least * (1 - at_least))
    assert (np.abs(found - n * expected) <= 4.5 * error).all()


def test_the_full_and_the_tiny_network_make_it_fair():
    space, n = toy_space(divisor=1), 2000
    choices = space.choices[space.units.index('merge')]
    plain = counts(space, 'merge', n, False, tiny=False)
    fair = counts(space, 'merge', n, True)
    # The first channels are in all M widths, the last ones in one of them.
    assert plain[0] == n and plain[-1] / n == pytest.approx(1 / len(choices), rel=0.35)
    assert fair[0] == 3 * n
    assert fair[0] / fair[-1] == pytest.approx(3 / (1 + 1 / len(choices)), rel=0.02)


def test_draws_depend_on_seed_and_iteration_only():
    space = toy_space()
    assert drawn_policies(space, 1, 7) == drawn_policies(space, 1, 7)
    assert drawn_policies(space, 1, 7) != drawn_policies(space, 1, 8)
    assert drawn_policies(space, 1, 7) != drawn_policies(space, 2, 7)
    names = list(drawn_policies(space, 0, 0, random=2))
    assert names == ['tiny', 'random', 'random2']
    assert drawn_policies(space, 0, 0, tiny=False, random=0) == {}
