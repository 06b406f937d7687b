"""Policies that are published with their cost and score: configs/*/policies/*.json.

A published policy is an ordinary policy file. Its facts are those that the search
wrote, and under :data:`ZOO` what the network scores and what it is made from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import PolicyError
from ..options import record
from .files import DAMAGE, PolicyFile

ZOO = 'zoo'
"""The entry of a policy file's facts that only published policies have."""

FOLDER = 'policies'
"""Folder of the published policies, beside the configs of their method."""


@dataclass(frozen=True, eq=False, repr=False)
class PublishedPolicy:
    """What is known of the network of a published policy.

    Args:
        name (str): Method, network, data set and target:
            ``'reconstruction/resnet56_cifar10_macs_0.5'``.
        path (Path): The policy file.
        network (str): The dense network, e.g. ``'ResNet-56'``.
        dataset (str): What it was trained on, e.g. ``'CIFAR-10'``.
        config (str): Config of the search, below ``configs/``; configs inherit it as
            ``'mmcompress::' + config``.
        task (str): As OpenMMLab names it, e.g. ``'Image Classification'``.
        metric (str): What was measured, e.g. ``'accuracy/top1'``.
        score, dense_score (float): What the network and the dense one achieve.
        measured (str): On which images, and of which network.
        checkpoint (str): Where the dense weights come from: an address, or how to get
            them.
        weights (str): Digest that the dense weights have as
            :func:`mmcompress.surgery.weights.weights_digest` computes it; its beginning
            is enough. Empty if unknown.
        command (str): What found the policy.
        searcher (str): Name of the searcher.
        costs (Mapping[str, float]): Costs of the network.
        shares (Mapping[str, float]): The same as shares of the dense network's.
    """

    name: str
    path: Path
    network: str
    dataset: str
    config: str
    task: str
    metric: str
    score: float
    dense_score: float
    measured: str
    checkpoint: str
    weights: str
    command: str
    searcher: str
    costs: Mapping[str, float]
    shares: Mapping[str, float]

    @property
    def config_file(self) -> Path:
        """The file of the config."""
        return self.path.parents[2] / self.config

    def load(self) -> PolicyFile:
        """Read the policy file."""
        return PolicyFile.load(self.path)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON-ready data."""
        return {**vars(self), 'path': str(self.path), 'costs': dict(self.costs),
                'shares': dict(self.shares)}

    def __repr__(self) -> str:
        return (f'{self.name}: {self.metric} {self.score:.5g} (dense '
                f'{self.dense_score:.5g}) at {self.shares.get("macs", 1):.1%} of the '
                'MACs')


def read_published(path: str | Path) -> PublishedPolicy:
    """What a policy file says about its network.

    Raises:
        PolicyError: It is no policy file, or does not say all that is published.
    """
    path = Path(path)
    facts = PolicyFile.load(path).facts
    try:
        said = facts[ZOO]
        return record(PublishedPolicy, {
            **said, 'name': f'{path.parent.parent.name}/{path.stem}', 'path': path,
            'searcher': facts['searcher'],
            'costs': MappingProxyType(dict(facts['costs'])),
            'shares': MappingProxyType(dict(said['shares']))}, 'what is published')
    except DAMAGE as error:
        raise PolicyError(
            f'{path} does not say all that a published policy has to ({error!r}); '
            'write it with tools/dev/add_policy.py.') from error


def published_in(configs: str | Path) -> tuple[PublishedPolicy, ...]:
    """The published policies below a folder of configs, by name."""
    found = Path(configs).resolve().glob(f'*/{FOLDER}/*.json')
    return tuple(map(read_published, sorted(found)))
