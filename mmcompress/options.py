"""What options may be: said by their annotations, and checked before any work.

An annotation is all that a new option needs: ``evaluations: Count = 100`` refuses 0,
``measure: Literal[MEASURES]`` another name. What a config says is checked when it is
read, by :func:`mmcompress.registry.checked`; functions that users call themselves say
:func:`checking`, classes derive from :class:`Checked`, dataclasses call
:func:`check_values` when made.
"""

from __future__ import annotations

import inspect
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, wraps
from math import inf, isfinite
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from .errors import CompressionError

Function = TypeVar('Function', bound=Callable)
Record = TypeVar('Record')


@dataclass(frozen=True)
class Within:
    """A range, as part of an annotation: ``Annotated[float, Within(0, 1)]``.

    Args:
        least, most (float): The ends. Default to none.
        above (float): What a value has to be larger than. Defaults to nothing.
    """

    least: float = -inf
    most: float = inf
    above: float = -inf

    def __contains__(self, value: float) -> bool:
        return self.least <= value <= self.most and value > self.above \
            and isfinite(value)

    def __str__(self) -> str:
        low = f'of at least {self.least:g}' if self.least > -inf else \
            f'above {self.above:g}'
        return low if self.most == inf else f'{low} and at most {self.most:g}'


Natural = Annotated[int, Within(0)]
Count = Annotated[int, Within(1)]
Positive = Annotated[float, Within(above=0)]
NotNegative = Annotated[float, Within(0)]
Share = Annotated[float, Within(0, 1)]
PositiveShare = Annotated[float, Within(above=0, most=1)]

WORDS = {int: 'a whole number', float: 'a number', bool: 'True or False', str: 'a text',
         NoneType: 'None', Mapping: 'a dict', dict: 'a dict', Callable: 'a function'}


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is what an annotation says; what it does not know, fits."""
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind is Annotated:
        return fits(value, parts[0]) and all(
            value in part for part in parts[1:] if isinstance(part, Within))
    if kind in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if kind is Literal:
        return any(isinstance(value, type(part)) and value == part for part in parts)
    if kind in (int, float):
        number = Integral if kind is int else Real
        return isinstance(value, number) and not isinstance(value, bool)
    if kind in (Sequence, list, tuple):
        # Configs and JSON write tuples as lists.
        listed = (list, tuple) if kind is not Sequence else Sequence
        return isinstance(value, listed) and not isinstance(value, str) and (
            not parts or _entries_fit(value, kind, parts))
    if kind in (Mapping, dict):
        return isinstance(value, Mapping) and (not parts or all(
            fits(k, parts[0]) and fits(v, parts[1]) for k, v in value.items()))
    try:
        return not isinstance(kind, type) or isinstance(value, kind)
    except TypeError:  # a protocol
        return True


def _entries_fit(value: Sequence, kind: type, parts: tuple) -> bool:
    if kind is tuple and parts[-1] is not ...:
        return len(value) == len(parts) and all(map(fits, value, parts))
    return all(fits(entry, parts[0]) for entry in value)


def described(hint: Any) -> str:
    """An annotation in words: 'a whole number of at least 1'."""
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind is Annotated:
        return ' '.join([described(parts[0]), *(
            str(part) for part in parts[1:] if isinstance(part, Within))])
    if kind in (Union, UnionType):
        return ' or '.join(map(described, parts))
    if kind is Literal:
        return f'one of {", ".join(map(repr, parts))}'
    if kind in (Sequence, list, tuple):
        size = f' of {len(parts)} entries' if parts and kind is tuple and \
            parts[-1] is not ... else ''
        return f'a list{size}' + (f', each {described(parts[0])}' if parts else '')
    return WORDS.get(kind, f'a {getattr(kind, "__name__", kind)}')


@cache
def options_of(kind: Callable) -> dict[str, Any]:
    """The arguments of a function or class by name, with their annotations.

    Where a class passes on ``**kwargs``, those of the classes that it derives from are
    among them.
    """
    found: dict[str, Any] = {}
    for part in kind.__mro__ if isinstance(kind, type) else [kind]:
        if isinstance(kind, type) and '__init__' not in vars(part):
            continue
        parameters = inspect.signature(part).parameters.values()
        try:
            hints = get_type_hints(
                part.__init__ if isinstance(part, type) else part, include_extras=True)
        except (NameError, TypeError):  # of another package
            hints = {}
        found |= {p.name: hints.get(p.name, Any) for p in parameters if p.kind in (
            p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in found}
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            break
    return found


def check_values(what: str, kind: Callable, values: Mapping[str, Any]) -> None:
    """Refuse values that the annotations of a function or class do not allow.

    Args:
        what (str): What has the options, for the message.
        kind (Callable): What takes them; names that it does not have are passed over.
        values (Mapping): The values by name.

    Raises:
        CompressionError: Names the option, and says what it may be.
    """
    hints = options_of(kind)
    for name, value in values.items():
        if not fits(value, hints.get(name, Any)):
            raise CompressionError(
                f'{name} of {what} is {described(hints[name])}, not '
                f'{short(value)}.')


def record(kind: type[Record], data: Any, name: str = 'an entry') -> Record:
    """A dataclass from the data of a file, once the data fit its annotations.

    Args:
        kind (type): The dataclass.
        data (Any): What the file holds; lists stand for tuples.
        name (str): What it is, for the message.

    Raises:
        TypeError: The data have other names.
        CompressionError: They are no dict, or a value does not fit.
    """
    if not isinstance(data, Mapping):
        raise CompressionError(f'{name} is a dict, not {short(data)}.')
    check_values(name, kind, data)
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})


def short(value: Any) -> str:
    """A value for a message, cut off where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f'{text[:77]}...'


def checking(function: Function) -> Function:
    """Let a function or constructor refuse values that do not fit its annotations."""
    signature, name = inspect.signature(function), function.__qualname__
    what = name.removesuffix('.__init__').rpartition('.')[2] + (
        '' if name.endswith('.__init__') else '()')

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        check_values(what, function, signature.bind(*args, **kwargs).arguments)
        return function(*args, **kwargs)

    return checked


class Checked:
    """Base of classes whose constructors are :func:`checking`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if '__init__' in vars(cls):
            cls.__init__ = checking(cls.__init__)


def parsed(hint: Any) -> Callable[[str], Any]:
    """The ``type`` of an option of a command line: ``parsed(Count)``."""
    def read(text: str) -> Any:
        value: Any = text
        with suppress(ValueError):
            value = get_args(hint)[0](text)
        if not fits(value, hint):
            raise ArgumentTypeError(f'{described(hint)}, not {text!r}')
        return value

    return read
