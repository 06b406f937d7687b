"""SeerNet: predictors on real labels, choice of labels, budgets a second, searches.

    python benchmarks/seernet.py labels    # 400 released labels of ResNet-20
    python benchmarks/seernet.py active    # which labels to ask for, on the same
    python benchmarks/seernet.py budgets   # 64 budgets of RetinaNet-R50 in one call
    python benchmarks/seernet.py search resnet20
    python benchmarks/seernet.py search yolox_nano

Kill it and run the same command again: it continues. Tables go to standard output.
"""

from __future__ import annotations

import argparse
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import harness
import numpy as np
import torch
from harness import NETWORKS, OUT, ROOT, Results, add_sizes, machine, parser, show

from mmcompress.api.run import SearchRun
from mmcompress.costs import Costs, CostTable, Target
from mmcompress.evaluation import Score
from mmcompress.graph import trace
from mmcompress.policy import Policy, SearchSpace
from mmcompress.searchers import SeerNet, best_per_target
from mmcompress.searchers.active import acquisition, counterfactual_weights
from mmcompress.searchers.predictors import (
    Agreement,
    GPPredictor,
    MLPEnsemblePredictor,
    RidgePredictor,
    read_label_table,
)
from mmcompress.searchers.solvers import solve
from mmcompress.session import Session

LABELS = ROOT.parent / 'shared/data/seernet_resnet20/policies.csv'
KINDS = dict(ridge=RidgePredictor, mlp=MLPEnsemblePredictor, gp=GPPredictor)


# -- predictors on real labels -------------------------------------------------
def labels(args: argparse.Namespace) -> None:
    """Held-out rank correlations over repeated splits of the released labels."""
    table = read_label_table(args.labels)
    results = Results(OUT / 'seernet' / 'labels.json', dict(labels=str(args.labels)))
    rows = []
    for kind in KINDS:
        for seen in (50, 100, 200, 360):
            splits = args.splits if kind != 'mlp' else min(args.splits, 10)
            found = [results.get(f'{kind} {seen} {seed}', lambda: held_out(
                table, kind, seen, seed)) for seed in range(splits)]  # noqa: B023
            value = np.array(found)
            rows.append([kind, str(seen), str(splits), *(
                f'{value[:, i].mean():.3f} ± {value[:, i].std():.3f}'
                for i in range(3)), f'{np.median(value[:, 3]):.2f}'])
    show('Unseen tenth of the labels (40), mean ± standard deviation over splits', [
        'predictor', 'labels', 'splits', 'Spearman', 'Kendall', 'cross-validated '
        'Spearman it claims', 'seconds to fit'], rows)


def held_out(table, kind: str, seen: int, seed: int) -> list[float]:
    """Spearman, Kendall, claimed Spearman and seconds of one split."""
    order = np.random.default_rng(seed).permutation(len(table))
    train, test = order[:seen], order[-40:]
    predictor = KINDS[kind](table.space)
    start = time.perf_counter()
    claimed = predictor.fit(table.rows[train], table.scores[train])
    seconds = time.perf_counter() - start
    mean, _ = predictor.predict(table.rows[test])
    truth = Agreement.of(mean.detach(), table.scores[test])
    return [truth.spearman, truth.kendall, claimed.spearman, seconds]


# -- which labels to ask for ---------------------------------------------------
METHODS = ('random', 'variance', 'counterfactual', 'counterfactual + weights')
ROUNDS = (40, 60, 80, 100, 120)


def active(args: argparse.Namespace) -> None:
    """Error on unseen labels after equal numbers of chosen ones, paired by seed."""
    table = read_label_table(args.labels)
    rows = []
    for kind in ('ridge', 'gp'):
        results = Results(
            OUT / 'seernet' / f'active_{kind}.json', dict(rounds=ROUNDS))
        found = {m: np.array([results.get(f'{m} {seed}', lambda: asked(
            table, kind, m, seed)) for seed in range(args.seeds)])  # noqa: B023
            for m in METHODS}
        base = found['random']
        for method in METHODS:
            gain = found[method] - base
            error = gain.std(0, ddof=1) / args.seeds ** 0.5
            for r in (2, 4):
                rows.append([
                    kind, method, str(ROUNDS[r]),
                    f'{found[method][:, r, 0].mean():.4f}',
                    f'{found[method][:, r, 1].mean():.4f}',
                    *([''] * 3 if method == 'random' else [
                        f'{gain[:, r, i].mean():+.4f} ± {error[r, i]:.4f}'
                        for i in (0, 1)]
                      + [f'{(gain[:, r, 1] < 0).mean():.0%}'])])
    show(f'{args.seeds} seeds; differences to random labels of the same seed, ± one '
         'standard error', [
             'predictor', 'labels chosen by', 'labels', 'Spearman', 'RMSE',
             'Spearman - random', 'RMSE - random', 'seeds with lower RMSE'], rows)


def asked(table, kind: str, method: str, seed: int) -> list[list[float]]:
    """Spearman and RMSE on 100 unseen labels after each round."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(table))
    pool, test = order[:300], order[300:]
    name, _, weighting = method.partition(' + ')
    taken, out, predictor = pool[:ROUNDS[0]], [], None
    for count in ROUNDS:
        if predictor is not None:
            rest = np.setdiff1d(pool, taken)
            value = acquisition(name)(predictor, table.rows[rest], rng)
            best = rest[np.argsort(-value, kind='stable')[:count - len(taken)]]
            taken = np.concatenate([taken, best])
        predictor = KINDS[kind](table.space)
        rows, scores = table.rows[taken], table.scores[taken]
        predictor.fit(rows, scores)
        if weighting:
            predictor.fit(
                rows, scores, counterfactual_weights(predictor, rows, scores))
        with torch.no_grad():
            mean = predictor.predict(table.rows[test])[0].numpy()
        truth = table.scores[test]
        out.append([Agreement.of(mean, truth).spearman,
                    float(np.sqrt(((mean - truth) ** 2).mean()))])
    return out


# -- many budgets in one call --------------------------------------------------
def budgets(args: argparse.Namespace) -> None:
    """Time, feasibility and agreement of starts on a RetinaNet-R50 joint space."""
    network = NETWORKS['RetinaNet-R50']
    # The traced units are verified by benchmarks/networks.py; here only costs count.
    graph = trace(network.build(), network.shape)
    space = SearchSpace.from_graph(
        graph, divisor=16, weight_bits=(4, 6, 8), activation_bits=(4, 6, 8))
    costs = Costs(CostTable.from_graph(graph), space)
    rng = np.random.default_rng(0)
    rows = np.array([[rng.choice(c) for c in space.choices] for _ in range(args.known)])
    predictor = GPPredictor(space)
    agreement = predictor.fit(rows, synthetic(predictor, rows))
    limits = np.geomspace(*(
        factor * float(costs.of_rows('bops', row)) for factor, row in
        ((1.3, space.lowest), (0.9, space.highest))), args.budgets)
    targets = [Target('bops', v, v) for v in limits]
    solve(predictor, costs, targets[:2])
    measured = []
    for starts, decoded in ((10, 3), (10, 10)):
        seconds = []
        for _ in range(3):
            begin = time.perf_counter()
            answers = solve(predictor, costs, targets, starts, decoded=decoded)
            seconds.append(time.perf_counter() - begin)
        spent = costs.of_rows('bops', answers.rows.reshape(-1, len(space)))
        share = spent.view(len(targets), -1).numpy() / limits[:, None]
        gap = np.ptp(answers.mean, axis=1)
        measured.append([
            f'{starts}, {decoded} rounded', f'{min(seconds):.2f}',
            f'{(share <= 1 + 1e-9).mean():.0%}',
            f'{share[:-8, 0].mean():.4f}', f'{gap.mean():.3f}', f'{gap.max():.3f}'])
    begin = time.perf_counter()
    solve(predictor, costs, targets[:1])
    one = time.perf_counter() - begin
    show(f'{machine()}. {len(space.units)} units, {len(space.layers)} layers, '
         f'{len(space.free)} free columns; {args.known} synthetic labels, cross-'
         f'validated Spearman {agreement.spearman:.2f}. One budget alone: {one:.2f} s',
         ['starts', f'seconds for {len(targets)} budgets', 'policies within budget',
          'budget used', 'mean spread over starts (points)', 'largest spread'],
         measured)


def synthetic(predictor: GPPredictor, rows: np.ndarray) -> np.ndarray:
    """Percent that fall with every feature, some faster, and sum up non-linearly."""
    rng = np.random.default_rng(1)
    x = predictor.features(rows).numpy()
    top = predictor.features(predictor.space.highest).numpy()
    weight = rng.exponential(size=x.shape[1])
    loss = ((top - x) * weight).sum(1) / weight.sum()
    return 36 * np.exp(-0.3 * loss - 0.1 * loss ** 2) + rng.normal(0, 0.1, len(x))


# -- searches ------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class Case(harness.Case):
    """A network whose widths and bits are searched; targets are shares of the BOPs.

    Args:
        between (tuple[float, ...]): Budgets that are asked for after the search.
        prices (int): Images for TwoStage's prices.
    """

    between: tuple[float, ...]
    prices: int


CASES = dict(
    resnet20=Case(
        config='configs/seernet/seernet_resnet20_cifar10.py', images=250,
        calibration=100, prices=512, test=1016, evaluations=40,
        targets=(0.02, 0.014, 0.01), between=(0.017, 0.012)),
    yolox_nano=Case(
        config='configs/seernet/seernet_yolox-nano_coco128.py', metric='coco/bbox_mAP',
        images=40, calibration=24, prices=32, test=127, evaluations=24,
        targets=(0.047, 0.042, 0.037), between=(0.0445, 0.0395)))
# The first one's time is what the others may spend.
SEARCHERS = ('Random', 'Evolution', 'TwoStage', 'SeerNet')


@dataclass(frozen=True, eq=False)
class TimedSession(Session):
    """A session that notes the processor time at both ends of every score."""

    marks: list[tuple[float, float]] = field(default_factory=list)

    def score(self, policy: Policy) -> Score:
        """See :meth:`Session.score`."""
        begin = time.process_time()
        score = super().score(policy)
        self.marks.append((begin, time.process_time()))
        return score


def search(args: argparse.Namespace) -> None:
    """Searches at equal evaluations, then further budgets from what they left."""
    case = CASES[args.network].changed(args)
    out = OUT / 'seernet' / args.network
    results = Results(out / 'results.json', dict(case=vars(case)))
    found = {}
    for seed in range(args.seeds):
        for s in SEARCHERS:
            limit = found['Random', seed]['seconds'] if found.get(
                ('Random', seed)) else np.inf
            found[s, seed] = results.get(f'{s} {seed}', lambda: one_search(
                case, out / f'{s}_{seed}', s, seed, limit))  # noqa: B023
            print(f'{s} {seed}: {found[s, seed]}', flush=True)
    rows = []
    for s in SEARCHERS:
        mine = [found[s, seed] for seed in range(args.seeds)]
        for kind in ('equal evaluations', 'equal time'):
            value = np.array([m[kind] for m in mine]) * case.scale
            cells = [f'{m:.1f} ± {d:.1f}' if np.isfinite(m) else 'none yet'
                     for m, d in zip(value.mean(0), value.std(0))]
            rows.append([s, kind, *cells, *[''] * (len(case.between)
                         if kind == 'equal time' else 0), *(
                f'{np.mean([m[k] for m in mine]):.0f}'
                for k in (f'{kind}, number', 'seconds', 'outside'))])
    dense = found['SeerNet', 0]['dense'] * case.scale
    show(f'{args.network}: {case.evaluations} evaluations on {case.images} training '
         f'images, {args.seeds} seeds, dense {dense:.1f} on the test images; best '
         'policy of each budget (BOPs / dense) on the test images, mean ± standard '
         f'deviation. The last {len(case.between)} budgets were asked for after the '
         "search. Equal time: within the processor time of the seed's Random", [
             'searcher', 'at', *map(str, (*case.targets, *case.between)),
             'evaluations', 'processor seconds', 'of these outside evaluations'], rows)
    show('Predicted against measured: a predictor of one search on the policies of '
         'two others', ['seed', 'unseen policies', 'Spearman', 'Kendall',
                        'Spearman it claims', 'one more budget (s)',
                        '64 more (s)', 'evaluation of one policy (s)'],
         [[str(seed), *(f'{v:.3g}' for v in results.get(
             f'unseen {seed}', lambda: unseen(case, out, seed)))]  # noqa: B023
          for seed in range(args.seeds)])


def make_run(bench: harness.Bench, session: Session, searcher: str, seed: int
             ) -> SearchRun:
    """The search that tools/search.py would make."""
    case, options = bench.case, bench.cfg.search_cfg.evaluator
    return SearchRun(
        session, dict(type=searcher, evaluations=case.evaluations, seed=seed),
        dict(bops=list(case.targets)), bench.folder, save_checkpoints=False,
        prices=dict(type='GradientPrices', images=case.prices,
                    batch_size=min(64, options.batch_size),
                    augment=options.get('augment', False)))


def one_search(
    case: Case, work_dir: Path, searcher: str, seed: int, limit: float
) -> dict:
    """Search, answer the budgets in between, and measure all on test images."""
    shutil.rmtree(work_dir, ignore_errors=True)  # Its times went with the process.
    begin = time.process_time()
    bench = harness.Bench(case, work_dir)
    session = TimedSession(**vars(bench.session))
    run = make_run(bench, session, searcher, seed)
    run.run()
    marks = [end - begin for _, end in session.marks]
    seconds = marks[-1]
    outside = seconds - sum(end - start for start, end in session.marks)
    run.answer(dict(bops=list(case.between)))
    everything = run.study.history()
    equal = [e for e in everything if e.number < case.evaluations]
    # The first mark is the dense model's.
    soon = [e for e in equal if marks[1 + e.number] <= limit]

    def tests(history, targets):
        return [bench.tested(w.policy, session.evaluator.mode) if w else np.nan
                for w in best_per_target(history, targets)]

    return {
        'dense': bench.tested(Policy(), session.evaluator.mode), 'seconds': seconds,
        'outside': outside, 'equal evaluations': [
            *tests(equal, run.targets),
            *tests(everything, bench.targets('bops', case.between))],
        'equal time': tests(soon, run.targets),
        'equal evaluations, number': len(equal), 'equal time, number': len(soon)}


def unseen(case: Case, out: Path, seed: int) -> list[float]:
    """Agreement on the other searches' policies, and seconds of further budgets."""
    histories = {}
    for kind in ('Random', 'Evolution', 'SeerNet'):
        bench = harness.Bench(case, out / f'{kind}_{seed}')
        run = make_run(bench, bench.session, kind, seed)
        histories[kind] = run.study.history()
    searcher: SeerNet = run.searcher
    history = histories.pop('SeerNet')
    predictor = searcher.fitted([e for e in history if e.number < case.evaluations])
    known = {e.policy for e in history}
    others = [e for found in histories.values() for e in found
              if e.number < case.evaluations and e.policy not in known]
    mean, _ = predictor.predict(
        bench.session.space.encode(e.policy for e in others))
    truth = Agreement.of(mean.detach(), np.array([e.score for e in others]))
    low, high = min(case.targets), max(case.targets)
    seconds = []
    for count in (1, 64):
        targets = bench.targets('bops', np.linspace(low, high, count + 2)[1:-1])
        begin = time.perf_counter()
        searcher.answers(history, targets)
        seconds.append(time.perf_counter() - begin)
    return [len(others), truth.spearman, truth.kendall, predictor.agreement.spearman,
            *seconds, float(np.mean([e.seconds for e in history]))]


def main() -> None:
    """Run one command."""
    options = parser(__doc__)
    commands = options.add_subparsers(required=True)
    for run in (labels, active, budgets, search):
        command = commands.add_parser(run.__name__, help=run.__doc__)
        command.set_defaults(run=run)
        command.add_argument('--labels', type=Path, default=LABELS)
        if run is labels:
            command.add_argument('--splits', type=int, default=30)
        if run is active:
            command.add_argument('--seeds', type=int, default=50)
        if run is budgets:
            command.add_argument('--budgets', type=int, default=64)
            command.add_argument('--known', type=int, default=200)
        if run is search:
            command.add_argument('network', choices=sorted(CASES))
            command.add_argument('--seeds', type=int, default=3)
            add_sizes(command, ('evaluations', 'images'))
    args = options.parse_args()
    args.run(args)


if __name__ == '__main__':
    harness.start(main)
