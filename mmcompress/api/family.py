"""The networks that a search ends with."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import CompressionError
from ..policy import Policy
from ..policy.files import PolicyFile
from ..report import Outcome, load_outcome, table_text, write_all
from .export import export
from .results import write_weights


@dataclass(frozen=True, eq=False)
class Member:
    """One network of a family.

    Args:
        name (str): Name of its target, e.g. ``'macs_0.5'``.
        file (PolicyFile): The policy, and what rebuilds its network.
        build (Callable): Makes the network.
        calibration (Sequence): Batches for :meth:`export`. Defaults to none.
    """

    name: str
    file: PolicyFile
    build: Callable[[], nn.Module]
    calibration: Sequence[Any] = ()

    @property
    def policy(self) -> Policy:
        """Width of every unit, bits of every layer."""
        return self.file.policy

    @property
    def score(self) -> float:
        """What the policy achieved in the search; higher is better."""
        return self.file.facts['score']

    @property
    def costs(self) -> Mapping[str, float]:
        """Every cost of the network by name: ``macs``, ``bops``, ``params``, ..."""
        return self.file.facts['costs']

    @cached_property
    def model(self) -> nn.Module:
        """The network: a plain module of the classes of the dense one, built once."""
        return self.build()

    def save(self, path: str | Path) -> Path:
        """Write the policy file, and beside it the weights with the suffix ``.pth``.

        Args:
            path (str | Path): The policy file; it has to end in ``.json``.

        Returns:
            Path: The policy file.
        """
        path = Path(path)
        if path.suffix != '.json':
            raise CompressionError(
                f'{path} has to end in .json: it is a policy file, and the weights '
                'are written beside it.')
        write_weights(path.with_suffix('.pth'), self.model)
        self.file.save(path)
        return path

    def export(self, path: str | Path, **options: Any) -> list[Path]:
        """Write the network as an ONNX file; see :func:`mmcompress.exporter`.

        Its ranges are measured on the images that the search calibrated on, unless
        ``calibration=`` gives others.
        """
        return export(self.model, path, self.file.input_shape,
                      **dict(dict(calibration=self.calibration), **options))

    def __repr__(self) -> str:
        macs = self.costs.get('macs')
        size = f', {macs:.4g} MACs' if macs else ''
        return f'{self.name}: score {self.score:.5g}{size}'


class Family(Mapping[str, Member]):
    """The networks that a search found, by the name of their target.

    Args:
        work_dir (Path): What the search wrote.
        builder (Callable): From a policy file's path to a function that makes its
            network.
        calibration (Sequence): Batches for exports. Defaults to none.
    """

    def __init__(
        self, work_dir: Path, builder: Callable[[Path], Callable[[], nn.Module]],
        calibration: Sequence[Any] = (),
    ) -> None:
        self.work_dir = Path(work_dir)
        self.outcome: Outcome = load_outcome(self.work_dir)
        self._members = {}
        for name in self.outcome.policies:
            path = self.work_dir / 'policies' / f'{name}.json'
            self._members[name] = Member(
                name, PolicyFile.load(path), builder(path), calibration)

    def __getitem__(self, name: str) -> Member:
        if name not in self._members:
            raise KeyError(f'{name!r}; this family has {", ".join(self._members)}')
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def report(self) -> dict[str, Path]:
        """Write the table, the pictures and the HTML again.

        Returns:
            dict[str, Path]: By name, e.g. ``'report.html'``, the files in the work dir.
        """
        return write_all(self.outcome, self.work_dir)

    def __repr__(self) -> str:
        return table_text(self.outcome.tradeoff)

    def _repr_html_(self) -> str:
        return f'<pre>{html.escape(repr(self))}</pre>'
