"""The published policies."""

from __future__ import annotations

import html
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ..errors import PolicyError
from ..files import shipped
from ..options import checking
from ..policy.published import PublishedPolicy, published_in
from ..registry import meant
from ..report.published import published_table


@dataclass(frozen=True, repr=False)
class Zoo(Collection[PublishedPolicy]):
    """Published policies; ``zoo[name]`` is one of them.

    Args:
        policies (tuple[PublishedPolicy, ...]): In the order of their names.
    """

    policies: tuple[PublishedPolicy, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the policies."""
        return tuple(policy.name for policy in self.policies)

    def matching(self, pattern: str) -> Zoo:
        """Those of which the name, network, data set, metric or config has a pattern.

        Args:
            pattern (str): A part of any of them; ``*`` stands for anything. Capitals
                do not matter.
        """
        wanted = f'*{pattern.lower()}*'
        return Zoo(tuple(p for p in self.policies if any(
            fnmatchcase(text.lower(), wanted)
            for text in (p.name, p.network, p.dataset, p.metric, p.config))))

    def __getitem__(self, name: str) -> PublishedPolicy:
        for policy in self.policies:
            if policy.name == name:
                return policy
        raise PolicyError(
            f'The zoo has no policy {name!r}.{meant(name, self.names)} Its names are '
            'in mmc.zoo().names.')

    def __iter__(self) -> Iterator[PublishedPolicy]:
        return iter(self.policies)

    def __len__(self) -> int:
        return len(self.policies)

    def __contains__(self, item: object) -> bool:
        return item in self.names or item in self.policies

    def __repr__(self) -> str:
        return published_table(self.policies).text()

    def _repr_html_(self) -> str:
        return f'<pre>{html.escape(repr(self))}</pre>'


@checking
def zoo(pattern: str | None = None, *, folder: str | Path | None = None) -> Zoo:
    """The policies that come with mmcompress, each with its cost and score.

    Only their files are read. With the dense network and some images without labels
    each becomes a working slim network by :func:`mmcompress.reconstruct`.

    Args:
        pattern: A part of the name, network, data set, metric or config:
            ``'resnet*0.5'``. Defaults to None: all.
        folder: Configs with policies of your own, ``<method>/policies/*.json``:
            ``folder='configs'``. Defaults to None: those of the installation.

    Returns:
        Zoo: The policies; empty if none has the pattern.

    Raises:
        PolicyError: There are no configs, or a file is damaged.

    Example:
        >>> entry = mmc.zoo()['reconstruction/resnet56_cifar10_macs_0.5']
        >>> slim = mmc.reconstruct(dense, entry, images)
    """
    configs = shipped('configs') if folder is None else Path(folder)
    if not configs.is_dir():
        raise PolicyError(
            f'There is no folder {configs} with configs. Install mmcompress by pip, '
            'which brings them, or name the folder by folder=.')
    found = Zoo(published_in(configs))
    return found if pattern is None else found.matching(pattern)
