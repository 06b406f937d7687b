"""What takes the place of functions that a checkpoint may name, but not call.

torch's unpickler calls what it is allowed to call with any arguments, and hands any
state to the result. The real functions are not made for that: a data type of NumPy
accepts flags that turn numbers into pointers, and a history of mmengine replaces
functions of its class. These stand-ins check what they are given.
"""

from __future__ import annotations

from pickle import UnpicklingError

import numpy as np
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

PLAIN_KINDS = 'biufcSU'
"""Kinds of data types whose bytes are the value: no objects, no records."""

ONE_CYCLE = 'OneCycleParamScheduler'
"""Stands for the class, so that a checkpoint can neither build nor change it."""

ANNEALING = ('_annealing_cos', '_annealing_linear')
"""Functions that the state of a one-cycle schedule refers to."""

STATISTICS = ('min', 'max', 'current', 'mean')
"""Functions that the state of a history refers to."""


class History(HistoryBuffer):
    """Stands for ``HistoryBuffer``, and becomes one.

    The real one lets its state replace the statistics of all histories.
    """

    def __setstate__(self, state: dict) -> None:
        """Take the numbers alone.

        Raises:
            UnpicklingError: They are not there, or not numbers.
        """
        try:
            values, counts = state['_log_history'], state['_count_history']
            plain = HistoryBuffer(values, counts, int(state['max_length']))
        except (KeyError, TypeError, ValueError, AssertionError) as error:
            raise UnpicklingError(f'a history is damaged: {error}') from error
        self.__dict__.update(vars(plain))
        self.__class__ = HistoryBuffer


class Dtype:
    """Stands for ``numpy.dtype``: a data type of plain numbers or text.

    Args:
        code (str): E.g. 'f8' or 'U5'.
        align, copy (bool): As NumPy writes them; without meaning here.

    Raises:
        UnpicklingError: It is another data type.
    """

    def __init__(self, code: str, align: bool = False, copy: bool = True) -> None:
        try:
            self._plain = np.dtype(str(code))
        except (TypeError, ValueError, SyntaxError) as error:
            raise UnpicklingError(f'there is no data type {code!r}') from error
        if self._plain.kind not in PLAIN_KINDS:
            raise UnpicklingError(f'an array of {code!r} is no array of plain values')

    def __setstate__(self, state: tuple) -> None:
        """Take the byte order; the rest describes records, and flags."""
        if not isinstance(state, tuple) or len(state) < 2 or \
                state[1] not in ('<', '>', '|', '='):
            raise UnpicklingError(f'{state!r} is no state of a data type')
        self._plain = self._plain.newbyteorder(state[1])

    @property
    def plain(self) -> np.dtype:
        """NumPy's data type."""
        return self._plain


class Array(np.ndarray):
    """Stands for ``numpy.ndarray``; is pickled and copied as a plain one."""

    def __new__(cls, *_: object) -> Array:
        """Refuse: checkpoints make arrays through :func:`reconstruct`."""
        raise UnpicklingError('an array is made in an unknown way')

    def __setstate__(self, state: tuple) -> None:
        """Take shape, data type and bytes.

        Raises:
            UnpicklingError: The state is not one of an array of plain values.
        """
        try:
            version, shape, dtype, fortran, data = state
            plain, data = _plain(dtype), _bytes(data)
            super().__setstate__((version, shape, plain, fortran, data))
        except (TypeError, ValueError) as error:
            raise UnpicklingError(f'an array is damaged: {error}') from error

    def __reduce__(self) -> tuple:
        """Leave no trace of this class in checkpoints that are written later."""
        return self.view(np.ndarray).__reduce__()

    def __deepcopy__(self, memo: dict) -> np.ndarray:
        """A plain array."""
        return self.view(np.ndarray).copy()


def reconstruct(kind: object, shape: tuple, code: bytes) -> Array:
    """Stands for ``_reconstruct``: an empty array, which its state fills."""
    return np.ndarray.__new__(Array, (0,), np.uint8)


def scalar(dtype: Dtype, data: bytes) -> np.generic:
    """Stands for ``scalar``: a number or a text of NumPy.

    Raises:
        UnpicklingError: The arguments are not a data type and its bytes.
    """
    try:
        return np.ndarray((), _plain(dtype), _bytes(data))[()]
    except (TypeError, ValueError) as error:
        raise UnpicklingError(f'a number is damaged: {error}') from error


def attribute(owner: object, name: object) -> object:
    """Stands for ``getattr``, with which a pickle names a function of a class.

    Raises:
        UnpicklingError: It asks for another function than the known harmless ones.
    """
    if owner is ONE_CYCLE and name in ANNEALING:
        return getattr(OneCycleParamScheduler, name)
    if owner is History and name in STATISTICS:
        return None  # a history takes its class's own
    raise UnpicklingError('GLOBAL builtins.getattr was not an allowed global')


def _plain(dtype: object) -> np.dtype:
    if not isinstance(dtype, Dtype):
        raise UnpicklingError('an array has no data type of plain values')
    return dtype.plain


def _bytes(data: object) -> bytes:
    if not isinstance(data, bytes):
        raise UnpicklingError('the values of an array are not bytes')
    return data
