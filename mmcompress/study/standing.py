"""Which trial of a storage stands for which evaluation of a study."""

from __future__ import annotations

from dataclasses import dataclass, field

from optuna.trial import FrozenTrial

from ..policy import Policy


@dataclass(frozen=True)
class Attempt:
    """The trial that currently stands for an evaluation number."""

    number: int
    generation: int
    trial: FrozenTrial

    @property
    def policy(self) -> Policy | None:
        """The policy, if one had been chosen."""
        data = self.trial.user_attrs.get('policy')
        return None if data is None else Policy.from_dict(data)


@dataclass
class Standing:
    """The trial that counts, by evaluation number, among the first ones of a study.

    Args:
        read (int): How many have been read.
        fresh (int): How many of them are no retries.
        attempts (dict[int, Attempt]): The ones that count.
    """

    read: int = 0
    fresh: int = 0
    attempts: dict[int, Attempt] = field(default_factory=dict)

    def add(self, trial: FrozenTrial) -> None:
        """Read the next trial."""
        self.read += 1
        attrs = trial.user_attrs
        if 'worker' not in attrs:
            return  # Not ours, e.g. added by hand in a dashboard.
        number, generation = attrs.get('retry', (self.fresh, 0))
        self.fresh += generation == 0
        known = self.attempts.get(number)
        if known is None or generation > known.generation:
            self.attempts[number] = Attempt(number, generation, trial)
