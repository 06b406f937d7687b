"""What every mutator does: act as a policy, and come back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from ..policy import Policy


class Mutator(ABC):
    """Makes a live model behave as a policy says, and back.

    Attributes:
        model (nn.Module): The prepared model.
    """

    model: nn.Module

    @property
    @abstractmethod
    def space_options(self) -> dict:
        """What this mutator says about the search space."""

    @abstractmethod
    def apply(self, policy: Policy) -> None:
        """Make the model act as ``policy``; replaces the policy before.

        Raises:
            PolicyError: The policy does not fit the model.
        """

    @abstractmethod
    def reset(self) -> None:
        """Make the model dense and float again, exactly."""

    @abstractmethod
    def materialise(self, policy: Policy) -> nn.Module:
        """The physically small model of ``policy``."""

    @contextmanager
    def acting(self, policy: Policy) -> Iterator[nn.Module]:
        """The model as ``policy`` says, for the length of a ``with`` block."""
        self.apply(policy)
        try:
            yield self.model
        finally:
            self.reset()
