"""A policy is a value: frozen, comparable, hashable, plain data at heart."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcompress.policy import FLOAT, Bits, Policy

NAMES = st.text(min_size=1, max_size=5)
POLICIES = st.builds(
    Policy, st.dictionaries(NAMES, st.integers(1, 4096), max_size=4),
    st.dictionaries(NAMES, st.tuples(st.integers(2, 32), st.integers(2, 32)),
                    max_size=4))


@given(POLICIES)
def test_round_trips(policy):
    for copy in (Policy.from_dict(policy.to_dict()),
                 pickle.loads(pickle.dumps(policy)),
                 Policy(dict(reversed(policy.widths.items())), policy.bits)):
        assert copy == policy
        assert hash(copy) == hash(policy)


def test_differs_in_any_choice():
    policy = Policy({'a': 4}, {'l': (4, 8)})
    assert policy != Policy({'a': 5}, {'l': (4, 8)})
    assert policy != Policy({'a': 4}, {'l': (8, 4)})
    assert policy != Policy({'a': 4})


def test_is_frozen():
    given_widths = {'a': 4}
    policy = Policy(given_widths)
    given_widths['a'] = 1
    assert policy.widths['a'] == 4
    with pytest.raises(TypeError):
        policy.widths['a'] = 1
    with pytest.raises(AttributeError):
        policy.widths = {}


def test_numbers_become_plain_integers():
    policy = Policy({'a': np.int64(4)}, {'l': np.array([4, 8])})
    assert type(policy.widths['a']) is int
    assert policy.bits['l'] == Bits(weight=4, activation=8)
    assert type(policy.bits['l'].weight) is int


@pytest.mark.parametrize('widths, bits', [
    ({'a': 3.5}, {}), ({'a': '8'}, {}), ({}, {'l': (4.5, 8)}), ({}, {'l': (4, 8, 8)})])
def test_nothing_is_rounded_or_guessed(widths, bits):
    with pytest.raises(TypeError):
        Policy(widths, bits)


def test_float_means_neither_is_quantised():
    assert Bits().is_float and Bits(FLOAT, FLOAT).is_float
    assert not Bits(8).is_float and not Bits(activation=8).is_float
