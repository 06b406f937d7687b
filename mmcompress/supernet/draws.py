"""Which subnets an iteration trains."""

from __future__ import annotations

import numpy as np

from ..policy import Policy, SearchSpace


def drawn_policies(
    space: SearchSpace, seed: int, iteration: int, tiny: bool = True, random: int = 1
) -> dict[str, Policy]:
    """The subnets of one iteration besides the full network.

    Every unit's width is drawn from its choices by itself. With M choices, the first
    of them c, channel j is used ``1 + [j <= c] + random * #{choices >= j} / M`` times
    per iteration: random subnets alone use the first channel M times as often as the
    last, with the full and the tiny network and one random subnet the ratio falls to
    3 / (1 + 1 / M).

    Args:
        space (SearchSpace): The widths to draw from.
        seed (int): Seed of all draws.
        iteration (int): Number of the iteration. Draws depend on nothing else, so
            that resumed runs and all processes agree.
        tiny (bool): Whether the network of the smallest widths is trained.
        random (int): Number of random subnets.

    Returns:
        dict[str, Policy]: By ``'tiny'``, ``'random'``, ``'random2'``, ...
    """
    rng = np.random.default_rng([seed, iteration])
    rows = {'tiny': space.lowest} if tiny else {}
    for number in range(random):
        rows[f'random{number + 1 if number else ""}'] = np.array(
            [choice[rng.integers(len(choice))] for choice in space.choices])
    return {name: space.decode(row)[0] for name, row in rows.items()}
