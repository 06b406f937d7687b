"""Ranking files: what one LeGR search learned, for every later target."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite

import numpy as np

from ..errors import PolicyError
from ..files import write_text
from ..policy.files import DAMAGE, read_versioned

FORMAT, VERSION = 'mmcompress.ranking', 1


@dataclass(frozen=True)
class Ranking:
    """A learned global ranking of the channels of one model.

    Args:
        fingerprint (str): Of the dense model.
        base (str): Kind of the base scores, e.g. ``'l2'``.
        reduction (str): How the scores of tied layers become one.
        factors (Mapping[str, tuple[float, float]]): ``(alpha, kappa)`` by layer.
        floors (Mapping[str, int]): By unit, the width below which it is not taken.
        facts (Mapping): Score and origin; informative only.
    """

    fingerprint: str
    base: str
    reduction: str
    factors: Mapping[str, tuple[float, float]]
    floors: Mapping[str, int]
    facts: Mapping = field(default_factory=dict)

    @property
    def alpha(self) -> np.ndarray:
        """``(L,)`` factors in the order of ``factors``."""
        return np.array([a for a, _ in self.factors.values()])

    @property
    def kappa(self) -> np.ndarray:
        """``(L,)`` offsets in the order of ``factors``."""
        return np.array([k for _, k in self.factors.values()])

    def to_dict(self) -> dict:
        """Return plain, JSON-ready data."""
        return dict(
            format=FORMAT, version=VERSION, fingerprint=self.fingerprint,
            base=self.base, reduction=self.reduction,
            factors={k: list(v) for k, v in self.factors.items()},
            floors=dict(self.floors), facts=dict(self.facts))

    def save(self, path: str | os.PathLike) -> None:
        """Write the file; it appears complete or not at all."""
        write_text(path, json.dumps(self.to_dict(), indent=1))

    @classmethod
    def load(cls, path: str | os.PathLike) -> Ranking:
        """Read and check a ranking file.

        Raises:
            PolicyError: Missing, not a ranking, of another version, or damaged.
        """
        data = read_versioned(
            path, 'ranking', FORMAT, VERSION, 'LeGR searches write theirs to '
            'work_dirs/<config>/ranking.json.')
        try:
            ranking = cls(
                str(data['fingerprint']), str(data['base']), str(data['reduction']),
                {k: (float(a), float(b)) for k, (a, b) in data['factors'].items()},
                {k: int(v) for k, v in data['floors'].items()},
                dict(data.get('facts', {})))
        except DAMAGE as error:
            raise PolicyError(f'{path} is damaged: {error!r}.') from error
        for layer, (alpha, kappa) in ranking.factors.items():
            if not (0 < alpha < float('inf') and isfinite(kappa)):
                raise PolicyError(
                    f'{path} is damaged: layer {layer!r} has alpha {alpha} and kappa '
                    f'{kappa}; alpha must be positive and both finite.')
        return ranking

    def check(self, fingerprint: str, base: str, layers: tuple[str, ...]) -> None:
        """Raise :class:`PolicyError` unless the ranking is of this model and base."""
        if fingerprint != self.fingerprint:
            raise PolicyError(
                f'The ranking belongs to another model (fingerprint '
                f'{self.fingerprint}, this one has {fingerprint}). Use the config '
                'that it was searched with.')
        if base != self.base:
            raise PolicyError(
                f'The ranking was learned over the base scores {self.base!r}, but the '
                f'channels are sorted by {base!r}. Set compression.channel.importance '
                f'to {self.base!r}.')
        if layers != tuple(self.factors):
            raise PolicyError(
                'The ranking lists other layers than this model ranks: '
                f'{len(self.factors)} instead of {len(layers)}. Search again.')
