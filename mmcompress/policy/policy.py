"""The decision: a width for every unit, bits for every layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import index
from types import MappingProxyType
from typing import NamedTuple

FLOAT = 32
"""Bit width that stands for "not quantised" in policies and costs."""


class Bits(NamedTuple):
    """Weight and activation bits of one layer; 32 means float."""

    weight: int = FLOAT
    activation: int = FLOAT

    @property
    def is_float(self) -> bool:
        """Whether neither weights nor activations are quantised."""
        return self.weight >= FLOAT and self.activation >= FLOAT


@dataclass(frozen=True)
class Policy:
    """A compressed network, described completely.

    Args:
        widths (Mapping[str, int]): Width by unit name. A unit that is absent
            keeps its dense width.
        bits (Mapping[str, Bits]): Bits by layer name. A layer that is absent
            stays in float.
    """

    widths: Mapping[str, int] = field(default_factory=dict)
    bits: Mapping[str, Bits] = field(default_factory=dict)

    def __post_init__(self) -> None:
        widths = {k: index(v) for k, v in self.widths.items()}
        bits = {k: Bits(*map(index, v)) for k, v in self.bits.items()}
        object.__setattr__(self, 'widths', MappingProxyType(widths))
        object.__setattr__(self, 'bits', MappingProxyType(bits))

    def __hash__(self) -> int:
        return hash((tuple(sorted(self.widths.items())),
                     tuple(sorted(self.bits.items()))))

    def to_dict(self) -> dict:
        """Return plain, JSON-ready data."""
        return dict(
            widths=dict(self.widths),
            bits={name: list(bits) for name, bits in self.bits.items()},
        )

    @classmethod
    def from_dict(cls, data: Mapping) -> Policy:
        """Inverse of :meth:`to_dict`."""
        return cls(data.get('widths', {}), data.get('bits', {}))

    def __getstate__(self) -> dict:
        return self.to_dict()

    def __setstate__(self, state: dict) -> None:
        object.__setattr__(self, 'widths', state['widths'])
        object.__setattr__(self, 'bits', state['bits'])
        self.__post_init__()
