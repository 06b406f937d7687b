"""SeerNet: learn to predict scores, then ask the predictor for policies."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Annotated, Literal

import numpy as np
import torch

from ..costs import Costs, Target
from ..errors import CompressionError
from ..options import Count, Natural, PositiveShare, Share, Within
from ..policy import Policy, SearchSpace
from ..registry import PREDICTORS, SEARCHERS, build, checked
from .active import ACQUISITIONS, acquisition, counterfactual_weights, diverse, evolve
from .base import Evaluated, Searcher
from .budget import fit_to_budget
from .front import best_per_target
from .predictors import Predictor
from .predictors.base import FEWEST_LABELS
from .solvers.barrier import solve
from .starts import random_rows, uniform_within
from .variation import Steps

VARIANTS = 64


@SEARCHERS.register_module()
class SeerNet(Searcher):
    """Accurate performance predictors (SeerNet, IJCV 2023, arXiv 2304.06393).

    The search has three phases. Random policies at the budgets in turn are labelled
    (scored like any other). Then batches are labelled that an acquisition finds
    most instructive. Last, the solver's policies of all targets are verified in
    rounds, and the predictor learns from every round. Afterwards any further
    budget is answered by the predictor alone.

    The first evaluations are the uniform policies of the targets, as reference.

    Args:
        initial (float): Share of the evaluations that are random at the start.
            Defaults to 0.3.
        verify (float): Share of the evaluations that verify the solver's policies.
            Defaults to 0.4.
        batch (int): Labels chosen at once. Defaults to 8.
        acquisition (str): ``'counterfactual'``, ``'variance'`` or ``'random'``.
            Defaults to 'counterfactual'.
        weighting (bool): Weigh labels by counterfactual sensitivity in a second
            fit. Defaults to False.
        predictor (dict | None): Config of a predictor. Defaults to GPPredictor.
        load (str | None): A saved predictor to use instead of fitting one.
        population, generations (int): Of the evolution towards instructive
            policies. Default to 200 and 30.
        starts, steps (int): Of the solver. Default to 10 and 40.
    """

    def __init__(
        self,
        space: SearchSpace,
        costs: Costs,
        targets: Sequence[Target],
        evaluations: Count = 100,
        seed: Natural = 0,
        initial: PositiveShare = 0.3,
        verify: Share = 0.4,
        batch: Count = 8,
        acquisition: Literal[tuple(ACQUISITIONS)] = 'counterfactual',
        weighting: bool = False,
        predictor: dict | None = None,
        load: str | PathLike | None = None,
        population: Annotated[int, Within(2)] = 200,
        generations: Natural = 30,
        starts: Count = 10,
        steps: Count = 40,
    ) -> None:
        super().__init__(space, costs, targets, evaluations, seed)
        if initial + verify > 1:
            raise CompressionError(
                f'SeerNet needs initial + verify <= 1, not {initial} + {verify}.')
        self.initial = max(round(initial * evaluations), len(self.targets))
        self.labels = max(evaluations - round(verify * evaluations), self.initial)
        self.batch, self.acquisition, self.weighting = batch, acquisition, weighting
        self.predictor_cfg = dict({'type': 'GPPredictor'}, **(predictor or {}))
        checked(PREDICTORS, self.predictor_cfg, ('space',))
        self.loaded = Predictor.load(load, space) if load else None
        self.population, self.generations = population, generations
        self.starts, self.steps = starts, steps
        self._memo: dict = {}

    def candidates(
        self, history: Sequence[Evaluated], number: int, target: Target,
        rng: np.random.Generator,
    ) -> Iterator[np.ndarray]:
        """See :meth:`Searcher.candidates`; random where too little is known."""
        if number < len(self.targets):
            yield uniform_within(self.space, self.costs, target)
        elif number >= self.initial and len(self.space.free):
            begin = self._round(number)
            known = self._known(history, begin)
            if self.loaded is None and len(known) < FEWEST_LABELS:
                return
            if self._teaches(number):
                yield np.roll(self._instructive(known, begin), begin - number, axis=0)
            else:
                yield self._solved(known)[self.targets.index(target)]
                yield self._variants(known, target, rng)

    def admits(self, rows: np.ndarray, number: int, target: Target) -> np.ndarray:
        """See :meth:`Searcher.admits`; labels near any of the budgets teach."""
        if self._teaches(number):
            return np.ones(len(rows), bool)
        return super().admits(rows, number, target)

    def answers(
        self, history: Sequence[Evaluated], targets: Sequence[Target]
    ) -> tuple[Policy, ...]:
        """See :meth:`Searcher.answers`.

        The solver's policy, until it has been evaluated; then the best evaluated
        policy within the budget, which scores at least as well. Later evaluations do
        not change the predictor, so that the same budget gets the same answer.
        """
        known = self._known(history, self.evaluations)
        if self.loaded is None and len(known) < FEWEST_LABELS:
            return ()
        predictor = self.fitted(known)
        solved = solve(predictor, self.costs, targets, self.starts, self.steps,
                       seed=self.seed)
        proposed = self.space.decode(solved.rows[:, 0])
        evaluated = {e.policy for e in history}
        best = best_per_target(history, targets)
        return tuple(
            winner.policy if winner is not None and policy in evaluated else policy
            for policy, winner in zip(proposed, best))

    def artefacts(self, history: Sequence[Evaluated]) -> dict[str, dict | bytes]:
        """See :meth:`Searcher.artefacts`: the predictor."""
        known = self._known(history, self.evaluations)
        if self.loaded is None and len(known) < FEWEST_LABELS:
            return {}
        buffer = io.BytesIO()
        self.fitted(known).write(buffer)
        return {'predictor.npz': buffer.getvalue()}

    def fitted(self, known: Sequence[Evaluated]) -> Predictor:
        """The predictor of some labels, or the one that was loaded."""
        if self.loaded is not None:
            return self.loaded
        rows = self.space.encode(e.policy for e in known)
        scores = np.array([e.score for e in known])

        def compute() -> Predictor:
            predictor: Predictor = build(
                PREDICTORS, self.predictor_cfg, space=self.space)
            predictor.fit(rows, scores)
            if self.weighting:
                predictor.fit(
                    rows, scores, counterfactual_weights(predictor, rows, scores))
            return predictor

        return self._once('predictor', known, compute)

    # -- where policies come from ----------------------------------------------
    def _teaches(self, number: int) -> bool:
        """Whether an evaluation is chosen for what the predictor learns from it."""
        return self.initial <= number < self.labels

    def _round(self, number: int) -> int:
        """Where the batch of labels or the round of verifying begins."""
        size, first = (self.batch, self.initial) if self._teaches(number) else \
            (len(self.targets), self.labels)
        return number - (number - first) % size

    def _instructive(self, known: Sequence[Evaluated], begin: int) -> np.ndarray:
        """The batch of labels that begins at a number."""
        def compute() -> np.ndarray:
            rng = self.rng(begin)
            predictor = self.fitted(known)
            acquire = acquisition(self.acquisition)
            start = np.concatenate([
                fit_to_budget(self.space, self.costs, target, random_rows(
                    self.space, -(-self.population // len(self.targets)), rng), rng)
                for target in self.targets])

            def merit(rows: np.ndarray) -> np.ndarray:
                value = acquire(predictor, rows, rng)
                return np.where(self._near_budgets(rows), value, -np.inf)

            rows, _ = evolve(
                self.space, merit, start, rng, self.generations)
            best = rows[:max(len(rows) // 4, self.batch)]
            return diverse(predictor, best, self.batch,
                           self.space.encode(e.policy for e in known))

        return self._once('batch', known, compute)

    def _near_budgets(self, rows: np.ndarray) -> np.ndarray:
        """Whether rows cost between half the tightest and the loosest budget."""
        near = np.zeros(len(rows), bool)
        for cost in {t.cost for t in self.targets}:
            limits = [t.limit for t in self.targets if t.cost == cost]
            value = self.costs.of_rows(cost, rows).numpy()
            near |= (value >= 0.5 * min(limits)) & (value <= max(limits))
        return near

    def _solved(self, known: Sequence[Evaluated]) -> np.ndarray:
        """The solver's policies of every target ``(T, S, D)``."""
        return self._once('solved', known, lambda: solve(
            self.fitted(known), self.costs, self.targets, self.starts, self.steps,
            seed=self.seed).rows)

    def _variants(
        self, known: Sequence[Evaluated], target: Target, rng: np.random.Generator
    ) -> np.ndarray:
        """Policies near the solver's and the best evaluated ones, promising first.

        By the upper confidence bound: what is verified already is not proposed
        again, and among its neighbours the uncertain ones teach more.
        """
        parents = self._solved(known)[self.targets.index(target)]
        best, = best_per_target(known, [target])
        if best is not None:
            parents = np.concatenate([parents, self.space.encode(best.policy)])
        rows = parents[rng.integers(len(parents), size=VARIANTS)].astype(float)
        mutate = Steps(self.space, share=0.1, at_least_one=False)
        rows = fit_to_budget(
            self.space, self.costs, target, mutate(rows, rng), rng)
        with torch.no_grad():
            mean, std = self.fitted(known).predict(rows)
        return rows[np.argsort(-(mean + std).numpy(), kind='stable')]

    def _once(self, what: str, known: Sequence[Evaluated], compute):
        """Keep the last result of a kind: a batch is proposed one by one."""
        key = tuple((e.number, e.score) for e in known)
        if self._memo.get(what, (None,))[0] != key:
            self._memo[what] = key, compute()
        return self._memo[what][1]

    @staticmethod
    def _known(history: Sequence[Evaluated], begin: int) -> list[Evaluated]:
        """Labels from before a round; the same for every worker of the round."""
        return [e for e in history if e.number < begin]
