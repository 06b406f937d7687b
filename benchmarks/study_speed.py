"""Time that a search spends beside its evaluations once its history is long.

    python benchmarks/study_speed.py --evaluations 5000

A claim, a choice by Evolution, which reads the whole history, and a record: median
milliseconds of each over some evaluations that follow a history of that length. The
processor's share of their sum does not depend on what else uses the machine.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from statistics import median

import numpy as np
from harness import machine, parser, show
from optuna.trial import TrialState, create_trial

from mmcompress.costs import Costs, CostTable, parse_targets
from mmcompress.policy import SearchSpace
from mmcompress.searchers import Evaluated, Evolution
from mmcompress.searchers.starts import random_rows
from mmcompress.study import Study, choose
from mmcompress.testing import chain_graph, toy_score

LAYERS = 60


def searcher_of(evaluations: int) -> Evolution:
    """A search of widths and bits of 60 layers for three budgets."""
    graph = chain_graph(LAYERS)
    space = SearchSpace.from_graph(
        graph, weight_bits=(4, 6, 8), activation_bits=(4, 6, 8))
    costs = Costs(CostTable.from_graph(graph), space)
    targets = parse_targets({'bops': [0.03, 0.02, 0.01]}, costs)
    return Evolution(space, costs, targets, evaluations)


def fill(study: Study, searcher: Evolution, count: int) -> None:
    """Store random evaluations, whole ones at a time: that is quicker."""
    score, rng = toy_score(searcher.space), np.random.default_rng(0)
    for policy in searcher.space.decode(random_rows(searcher.space, count, rng)):
        study._storage.create_new_trial(study._id, create_trial(
            state=TrialState.COMPLETE, value=score(policy), user_attrs=dict(
                worker=study._worker, heartbeat=time.time(), policy=policy.to_dict(),
                costs=searcher.costs.of(policy), metrics={}, seconds=1.0)))


def times(study: Study, searcher: Evolution) -> Iterator[tuple[float, ...]]:
    """Seconds of the steps of every evaluation that is left, and of the processor."""
    score = toy_score(searcher.space)
    while True:
        used, marks = time.process_time(), [time.perf_counter()]
        claim = study.claim(searcher.evaluations)
        if claim is None:
            return
        marks.append(time.perf_counter())
        policy = choose(searcher, study, claim)
        marks.append(time.perf_counter())
        study.finish(claim, Evaluated(
            claim.number, policy, score(policy), searcher.costs.of(policy)))
        marks.append(time.perf_counter())
        yield *np.diff(marks), marks[-1] - marks[0], time.process_time() - used


def main() -> None:
    """Time the storages in files."""
    options = parser(__doc__)
    options.add_argument('--evaluations', type=int, default=5000)
    options.add_argument('--repeats', type=int, default=30)
    args = options.parse_args()
    rows = []
    for scheme in ('sqlite', 'journal'):
        with tempfile.TemporaryDirectory() as folder:
            searcher = searcher_of(args.evaluations + args.repeats)
            study = Study(f'{scheme}:///{folder}/search.db', 'search', {})
            fill(study, searcher, args.evaluations)
            found = 1000 * np.array(list(times(study, searcher)))
        rows.append([scheme, *(f'{median(column):.1f}' for column in found.T)])
    show(f'{machine()}. After {args.evaluations} evaluations, milliseconds:',
         ['storage', 'claim', 'choice', 'record', 'together', 'of the processor'], rows)


if __name__ == '__main__':
    main()
