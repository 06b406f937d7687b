"""LeGR: one learned global ranking of all channels serves every budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ..costs import Costs, Target, parse_targets, tightest
from ..errors import CompressionError, TargetError
from ..options import Count, Natural, Positive, Share
from ..policy import ChannelScores, Policy, SearchSpace
from ..registry import SEARCHERS
from .base import Evaluated, Searcher
from .ladder import REDUCTIONS, Ladder
from .ranking import Ranking

ATTEMPTS = 16
"""Draws for one evaluation until its policy is new; the second half is random."""


@dataclass(frozen=True, eq=False)
class Genotype:
    """Factors and offsets of the layers, each of shape ``(L,)``."""

    alpha: np.ndarray
    kappa: np.ndarray

    def mutant(
        self, changed: np.ndarray, log_factor: np.ndarray, offset: np.ndarray
    ) -> Genotype:
        """The genotype with some layers scaled and shifted; all arrays ``(L,)``."""
        return Genotype(
            self.alpha * np.where(changed, np.exp(log_factor), 1),
            self.kappa + np.where(changed, offset, 0))


@SEARCHERS.register_module()
class LeGR(Searcher):
    """Regularised evolution of affine scores (CVPR 2020, arXiv 1904.12368).

    Every evaluation is at the tightest budget, or at one that is given. The
    policies of all targets are thresholds on the best ranking seen, so they are
    nested.

    A proposal is a policy; the ranking behind it is found again by repeating its
    draws. They depend on the seed and the number alone, but for the parent, which
    is the best of those drawn that had been finished then. With several workers
    that may be another than the best one now: it is the one whose mutant has the
    policy in the history. An evaluation whose parents are not in the history has
    no ranking and no offspring.

    Where the space offers bits as well, all layers take the highest ones with
    which pruning can meet the budgets: LeGR ranks channels only.

    Args:
        scores (ChannelScores | None): Base scores of the channels; None, where no
            widths are searched, is an error.
        evaluations (int): Defaults to 400, the paper's.
        population (int): The first so many evaluations are random, but for the
            very first, which is the base ranking itself; later the oldest leaves.
            Defaults to 64.
        tournament (int): Members drawn, with replacement, to find a parent.
            Defaults to 16.
        mutation (float): Share of the layers that change. Defaults to 0.1.
        deviation (float): Standard deviation of a random log factor, and of an
            offset in units of its layer's. Defaults to 1, the paper's. A few dozen
            evaluations need a smaller one to improve on the base ranking.
        reduction (str): ``'sum'``, ``'mean'`` or ``'max'`` of tied layers. Defaults
            to 'sum'.
        min_channels (int): Least width of a unit, besides the space's own floors.
            Defaults to 2.
        search_at (Mapping | None): Budget at which rankings are scored, written as
            the targets are, e.g. ``dict(macs=0.5)``. Where all networks of the
            tightest target score near chance without training, a looser one tells
            rankings apart better. Defaults to the tightest target.
        ranking (str | None): Ranking file to serve the targets from; nothing is
            searched then.

    Raises:
        CompressionError: No scores.
        TargetError: A target below what the floors allow.
        PolicyError: ``ranking`` is not one of this model.
    """

    needs = ('scores',)
    spare = ()  # Later attempts draw random rankings.

    def __init__(
        self,
        space: SearchSpace,
        costs: Costs,
        targets: Sequence[Target],
        scores: ChannelScores | None,
        evaluations: Count = 400,
        seed: Natural = 0,
        population: Count = 64,
        tournament: Count = 16,
        mutation: Share = 0.1,
        deviation: Positive = 1.0,
        reduction: Literal[REDUCTIONS] = 'sum',
        min_channels: Natural = 2,
        search_at: Mapping[str, Any] | None = None,
        ranking: str | None = None,
    ) -> None:
        super().__init__(space, costs, targets, evaluations, seed)
        if scores is None:
            raise CompressionError(
                'LeGR ranks channels; add channel=dict(...) to compression, or choose '
                'another searcher.')
        goals = parse_targets(search_at, costs) if search_at else self.targets
        self.goal = Target('goal', 1.0, 1.0, tuple(tightest(goals).items()))
        self.population, self.tournament = population, tournament
        self.mutation, self.deviation = mutation, deviation
        self.base = scores.kind
        self.loaded = None if ranking is None else Ranking.load(ranking)
        if self.loaded is not None:
            self.evaluations, reduction = 0, self.loaded.reduction
        floors = dict.fromkeys(space.units, min_channels)
        self.ladder = Ladder(
            space, scores, reduction, self.loaded.floors if self.loaded else floors)
        if self.loaded is not None:
            self.loaded.check(self._fingerprint, self.base, self.ladder.layers)
        self.bits = self._highest_bits()
        self._replayed: list[tuple[Evaluated, Genotype | None]] = []

    @property
    def _fingerprint(self) -> str:
        return self.costs.table.graph.fingerprint

    @cached_property
    def identity(self) -> Genotype:
        """The base ranking: with l2 scores, plain global L2 pruning."""
        layers = len(self.ladder.layers)
        return Genotype(np.ones(layers), np.zeros(layers))

    def _highest_bits(self) -> np.ndarray:
        """Row with the highest bits at which the narrowest widths are affordable."""
        row, bits = self.ladder.bottom, self.space.bits
        choices = self.space.choices[bits]
        for level in range(max(map(len, choices), default=1)):
            row[bits] = [c[max(len(c) - 1 - level, 0)] for c in choices]
            if all(t.fits(self.costs, row) for t in (*self.targets, self.goal)):
                return row
        names = ', '.join(t.name for t in self.targets)
        raise TargetError(
            f'One of the targets {names} is below what LeGR reaches with every unit '
            'at its floor. Raise it, or lower min_ratio and min_channels.')

    # -- the search ----------------------------------------------------------
    def turn(self, number: int) -> Target:
        """See :meth:`Searcher.turn`: all rankings are scored at one budget."""
        return self.goal

    def candidates(
        self, history: Sequence[Evaluated], number: int, target: Target,
        rng: np.random.Generator,
    ) -> Iterator[np.ndarray]:
        """See :meth:`Searcher.candidates`; :meth:`_children` draws them again."""
        members = self._members(history, number)
        for attempt in range(ATTEMPTS):
            yield self._row(next(self._children(members, number, attempt)), [target])

    def _row(self, genotype: Genotype, targets: Sequence[Target]) -> np.ndarray:
        descent = self.ladder.descent(genotype.alpha, genotype.kappa)
        return self.ladder.row(descent, self.costs, targets, self.bits)

    def policy_of(self, genotype: Genotype, targets: Sequence[Target]) -> Policy:
        """The widest policy of a ranking that meets all of the targets."""
        return self.space.decode(self._row(genotype, targets))[0]

    def _children(
        self,
        members: Mapping[int, tuple[float, Genotype]],
        number: int,
        attempt: int,
    ) -> Iterator[Genotype]:
        """Yield what evaluation ``number`` may be, the likeliest first.

        Args:
            members: Score and ranking of finished evaluations, by number.
            number (int): The evaluation.
            attempt (int): How many draws gave a policy that is not new.
        """
        rng = np.random.default_rng([self.seed, number, attempt])
        size = len(self.ladder.layers)
        if number == 0 and attempt == 0:
            yield self.identity
            return
        drawn = number - 1 - rng.integers(self.population, size=self.tournament)
        factor = rng.normal(0, self.deviation, size)
        offset = rng.normal(0, self.deviation * self.ladder.spread)
        if number >= self.population and attempt < ATTEMPTS // 2:
            changed = np.zeros(size, bool)
            changed[rng.permutation(size)[:max(1, round(self.mutation * size))]] = True
            step = 1 - number / (1.25 * self.evaluations)
            parents = [(-members[n][0], n) for n in set(drawn.tolist()) & set(members)]
            for _, n in sorted(parents):
                yield members[n][1].mutant(changed, step * factor, offset)
        yield Genotype(np.exp(factor), offset)

    # -- what the history says -------------------------------------------------
    def _members(
        self, history: Sequence[Evaluated], number: int
    ) -> dict[int, tuple[float, Genotype]]:
        """Score and ranking of the finished evaluations below ``number``."""
        return {e.number: (e.score, g) for e, g in self._replay(history)
                if g is not None and e.number < number}

    def _replay(
        self, history: Sequence[Evaluated]
    ) -> list[tuple[Evaluated, Genotype | None]]:
        """The history with its rankings; what was replayed before is kept."""
        searched = [e for e in history if e.number < self.evaluations]
        same = 0
        for known, entry in zip(self._replayed, searched):
            if known[0] is not entry and known[0] != entry:
                break
            same += 1
        done = self._replayed[:same]
        members = {e.number: (e.score, g) for e, g in done if g is not None}
        for entry in searched[same:]:
            genotype = self._find(members, entry)
            done.append((entry, genotype))
            if genotype is not None:
                members[entry.number] = (entry.score, genotype)
        self._replayed = done
        return done

    def _find(
        self, members: Mapping[int, tuple[float, Genotype]], entry: Evaluated
    ) -> Genotype | None:
        """The first ranking among the possible ones that gives the policy."""
        for attempt in range(ATTEMPTS):
            for child in self._children(members, entry.number, attempt):
                if self.policy_of(child, [self.goal]) == entry.policy:
                    return child
        return None

    # -- afterwards ------------------------------------------------------------
    def best(self, history: Sequence[Evaluated]) -> tuple[Genotype, dict] | None:
        """The best ranking ever seen and where it is from; None if there is none."""
        if self.loaded is not None:
            genotype = Genotype(self.loaded.alpha, self.loaded.kappa)
            return genotype, dict(self.loaded.facts)
        known = [(e, g) for e, g in self._replay(history) if g is not None]
        if not known:
            return None
        entry, genotype = min(known, key=lambda pair: (-pair[0].score, pair[0].number))
        return genotype, dict(evaluation=entry.number, score=entry.score)

    def answers(
        self, history: Sequence[Evaluated], targets: Sequence[Target]
    ) -> tuple[Policy, ...]:
        """See :meth:`Searcher.answers`: thresholds on the best ranking."""
        best = self.best(history)
        if best is None:
            return ()
        return tuple(self.policy_of(best[0], [target]) for target in targets)

    def artefacts(self, history: Sequence[Evaluated]) -> dict[str, dict]:
        """See :meth:`Searcher.artefacts`: the ranking."""
        best = self.best(history)
        if best is None:
            return {}
        genotype, facts = best
        pairs = zip(genotype.alpha.tolist(), genotype.kappa.tolist())
        floors = self.ladder.bottom[self.space.widths].tolist()
        ranking = Ranking(
            self._fingerprint, self.base, self.ladder.reduction,
            dict(zip(self.ladder.layers, pairs)),
            dict(zip(self.space.units, floors)), facts)
        return {'ranking.json': ranking.to_dict()}
