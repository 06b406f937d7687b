"""Policy files: JSON, versioned, tied to the model they were searched on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from operator import index

import numpy as np

from ..errors import PolicyError
from ..files import read_json, write_text
from ..options import Count, check_values, record
from .points import PointSite
from .policy import FLOAT, Policy

FORMAT, VERSION = 'mmcompress.policy', 1

DAMAGE = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading data of another form than expected raises."""


@dataclass(frozen=True, eq=False)
class PolicyFile:
    """A policy with what is needed to rebuild its network.

    Args:
        policy (Policy): The decision.
        fingerprint (str): Of the dense model.
        input_shape (tuple[int, ...]): ``(C, H, W)`` that the costs refer to.
        channels (Mapping[str, np.ndarray]): By pruned unit, the kept channels in
            the numbering of the dense checkpoint.
        facts (Mapping): Costs, score and origin; informative only.
        points (tuple[PointSite, ...]): Tensors between layers that the network
            quantises as its exported file does. Defaults to none.
    """

    policy: Policy
    fingerprint: str
    input_shape: tuple[Count, ...]
    channels: Mapping[str, np.ndarray] = field(default_factory=dict)
    facts: Mapping = field(default_factory=dict)
    points: tuple[PointSite, ...] = ()

    def save(self, path: str | os.PathLike) -> None:
        """Write the file; it appears complete or not at all."""
        data = dict(
            format=FORMAT, version=VERSION, fingerprint=self.fingerprint,
            input_shape=list(self.input_shape), **self.policy.to_dict(),
            channels={k: np.asarray(v).tolist() for k, v in self.channels.items()},
            facts=dict(self.facts))
        if self.points:
            data['points'] = [asdict(site) for site in self.points]
        write_text(path, json.dumps(data, indent=1))

    @classmethod
    def load(cls, path: str | os.PathLike) -> PolicyFile:
        """Read and check a policy file.

        Raises:
            PolicyError: Missing, not a policy, of another version, or
                inconsistent.
        """
        data = read_versioned(
            path, 'policy', FORMAT, VERSION, 'Searches write theirs to '
            'work_dirs/<config>/policies/.')
        try:
            loaded = cls(
                Policy(data['widths'], data['bits']), data['fingerprint'],
                tuple(data['input_shape']),
                {k: np.array([index(i) for i in v], int)
                 for k, v in data['channels'].items()},
                data.get('facts', {}),
                tuple(record(PointSite, site) for site in data.get('points', ())))
            check_values('the policy', cls, vars(loaded))
        except DAMAGE as error:
            raise PolicyError(f'{path} is damaged: {error!r}.') from error
        for layer, bits in loaded.policy.bits.items():
            if not all(2 <= value <= 8 or value == FLOAT for value in bits):
                raise PolicyError(
                    f'{path} is damaged: layer {layer!r} has {tuple(bits)} bits, which '
                    f'are neither 2 to 8 nor {FLOAT}.')
        for unit, kept in loaded.channels.items():
            if len(kept) != loaded.policy.widths.get(unit):
                raise PolicyError(
                    f'{path} is damaged: unit {unit!r} has width '
                    f'{loaded.policy.widths.get(unit)} but lists {len(kept)} channels.')
            if (np.diff(kept, prepend=-1) < 1).any():
                raise PolicyError(
                    f'{path} is damaged: the channels of unit {unit!r} are not '
                    'ascending numbers from 0.')
        return loaded

    def check_model(self, fingerprint: str, name: str = 'this model') -> None:
        """Raise :class:`PolicyError` unless the policy is of this dense model."""
        if fingerprint != self.fingerprint:
            raise PolicyError(
                f'The policy belongs to another model (fingerprint '
                f'{self.fingerprint}, {name} has {fingerprint}). Use the config '
                'that it was searched with.')


def read_versioned(
    path: str | os.PathLike, what: str, format: str, version: int, hint: str
) -> dict:
    """Read a JSON file of mmcompress and check what it says it is.

    Args:
        path (str | os.PathLike): The file.
        what (str): What it holds, for messages.
        format (str): Its ``format`` entry.
        version (int): Its ``version`` entry.
        hint (str): A sentence on where to find such files.

    Raises:
        PolicyError: Missing, not JSON, of another kind or of another version.
    """
    try:
        data = read_json(path)
    except FileNotFoundError:
        raise PolicyError(
            f'There is no {what} file {str(path)!r}. {hint}') from None
    except (OSError, ValueError) as error:
        raise PolicyError(f'{path} cannot be read as JSON: {error}') from error
    if not isinstance(data, dict) or data.get('format') != format:
        raise PolicyError(f'{path} is not a {what} file of mmcompress.')
    if data.get('version') != version:
        raise PolicyError(
            f'{path} has version {data.get("version")}; this mmcompress reads '
            f'version {version}. Search again or use a matching mmcompress.')
    return data
