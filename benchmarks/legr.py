"""LeGR against its baselines at equal evaluations, and what it costs.

Policies are scored on training images, with batch norms recalibrated on other
training images, and tested on images that no search has seen. Every score is kept in
work_dirs/benchmarks/legr/; kill it and run the same command again: it continues.

    python benchmarks/legr.py resnet56
    python benchmarks/legr.py resnet56_jpeg --parts compare
    python benchmarks/legr.py yolox_nano --parts compare

The defaults fit one CPU core. On a GPU raise --evaluations, --images, --calibration
and --steps.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import mean, stdev

import numpy as np
import torch
from legr_cases import CASES, FOLDER, METHODS, Bench, Case, legr_options
from scipy.stats import spearmanr

from mmcompress.openmmlab.checkpoints import loading
from mmcompress.openmmlab.evaluators import DatasetEvaluator as PolicyEvaluator
from mmcompress.policy import Policy
from mmcompress.searchers import Evolution, LeGR, Random, Ranking, best_per_target
from mmcompress.searchers.starts import largest_uniform, uniform_rows
from mmcompress.surgery.permute import permute


def over_seeds(bench: Bench) -> dict[str, list[dict[float, Policy]]]:
    """By method and seed, the policy of every target."""
    case = bench.case
    _, rows = uniform_rows(bench.space)
    targets = bench.targets(case.targets)
    uniform = {t.value: bench.space.decode(
        rows[largest_uniform(bench.space, bench.costs, t)])[0] for t in targets}
    legr = bench.make(LeGR, case.targets, 0, **legr_options(case))
    base = {t.value: legr.policy_of(legr.identity, [t]) for t in targets}
    found = {'uniform': [uniform], 'identity ranking': [base]}
    for seed in range(bench.seeds):
        kinds = {
            'LeGR': legr_options(case),
            'random rankings': legr_options(case, random_only=True),
            'LeGR, deviation 1': dict(legr_options(case), deviation=1)}
        for name in [name for name in kinds if name in bench.methods]:
            searcher = bench.make(LeGR, case.targets, seed, **kinds[name])
            history, *_ = bench.run(searcher)
            found.setdefault(name, []).append(dict(zip(
                case.targets, searcher.answers(history, targets))))
        if 'random policies' not in bench.methods:
            continue
        history, *_ = bench.run(bench.make(Random, case.targets, seed))
        best = best_per_target(history, targets)
        found.setdefault('random policies', []).append(
            {t.value: e.policy for t, e in zip(targets, best)})
    return found


def spread(values: Sequence[float]) -> str:
    """Mean and, over several seeds, standard deviation."""
    text = f'{mean(values):.1f}'
    return text + (f' ± {stdev(values):.1f}' if len(values) > 1 else '')


def compare(bench: Bench) -> None:
    """Print quality over seeds, before and after fine-tuning."""
    case, found = bench.case, over_seeds(bench)
    dense = Policy()
    tuned = f', {bench.tuned(dense):.1f} tuned' if case.tuned else ''
    print(f'\ndense: {bench.on_search_images(dense):.1f} on search images, '
          f'{bench.tested(dense):.1f} tested{tuned}', flush=True)
    head = [f'search {v:g}' for v in case.compared]
    head += [f'test {v:g}' for v in case.compared]
    head += [f'tuned {v:g}' for v in case.tuned]
    print(f'\n| method | {" | ".join(head)} |\n|---|{"---|" * len(head)}')
    for name, runs in found.items():
        cells = [spread([measure(run[value]) for run in runs])
                 for measure, values in (
                     (bench.on_search_images, case.compared),
                     (bench.tested, case.compared), (bench.tuned, case.tuned))
                 for value in values]
        print(f'| {name} | {" | ".join(cells)} |', flush=True)


def one_against_many(bench: Bench) -> None:
    """Print one LeGR search for all targets against one Evolution for each."""
    case = bench.case
    targets = bench.targets(case.targets)
    searcher = bench.make(LeGR, case.targets, 0, **legr_options(case))
    history, *_ = bench.run(searcher)
    answers = searcher.answers(history, targets)
    print('\n| target | LeGR search / test | Evolution search / test |\n|---|---|---|')
    for target, policy in zip(targets, answers):
        separate, *_ = bench.run(bench.make(Evolution, [target.value], 0))
        best = best_per_target(separate, [target])[0].policy
        cells = [f'{bench.on_search_images(p):.1f} / {bench.tested(p):.1f}'
                 for p in (policy, best)]
        print(f'| {target.value:g} | {" | ".join(cells)} |', flush=True)


def clock(bench: Bench, rounds: int = 3) -> None:
    """Print the time of N targets by one LeGR search and by N Evolutions.

    Candidates of all targets are timed in turn, so that load on the machine meets
    all of them alike; a search is so many times its candidate. LeGR's are those of
    the budget that rankings are scored at, and it scores its policies once.
    """
    case = bench.case
    searcher = bench.make(LeGR, case.targets, 0, **legr_options(case))
    targets = bench.targets(case.targets)
    policies = [searcher.policy_of(searcher.identity, [t]) for t in targets]
    seconds = np.median([
        [bench.evaluated(p, case.by)['seconds'] for p in policies]
        for _ in range(rounds)], axis=0)
    at = seconds[case.targets.index(case.search_at)]
    print('\n| targets | seconds a candidate | one LeGR search and its policies, s | '
          'one Evolution each, s | ratio |\n|---|---|---|---|---|')
    for n in range(1, len(policies) + 1):
        ours = case.evaluations * at + seconds[:n].sum()
        theirs = case.evaluations * seconds[:n].sum()
        print(f'| {n} ({case.targets[n - 1]:g}) | {seconds[n - 1]:.2f} | {ours:.0f} | '
              f'{theirs:.0f} | {theirs / ours:.2f} |')


def tau(bench: Bench, candidates: int = 6, steps: int = 50) -> None:
    """Print how well scoring without training ranks random rankings.

    At the paper's deviation, where candidates differ most.
    """
    case, evaluator = bench.case, bench.loop.evaluator
    trainer = PolicyEvaluator(
        case.metric, case.images, case.calibration, evaluator.mode,
        batch_size=case.batch,
        finetune=dict(steps=steps, batch_size=case.batch // 2))
    trainer.prepare(bench.loop.model, bench.cfg)

    def trained(policy: Policy) -> dict:
        def measure() -> dict:
            score = trainer.evaluate(policy, bench.loop.mutator)
            return dict(score=score.value, seconds=score.seconds)
        return bench.get(f'tau {steps} {bench.key(policy)}', measure)

    print('\n| MACs | Spearman of loss / of metric | without training | after '
          f'{steps} steps | time a candidate |\n|---|---|---|---|---|')
    for value in (case.search_at, min(case.targets)):
        searcher = bench.make(
            LeGR, case.targets, 0, population=candidates,
            search_at=dict(macs=value))
        policies = [searcher.propose((), n) for n in range(candidates)]
        after = [trained(p) for p in policies]
        truth = [found['score'] for found in after]
        loss, metric = ([bench.score(p, by) for p in policies]
                        for by in ('loss', case.metric))
        agree = [spearmanr([found['score'] for found in plain], truth).statistic
                 for plain in (loss, metric)]
        ranges = [f'{bench.scale * min(v):.1f} to {bench.scale * max(v):.1f}'
                  for v in ([found['score'] for found in metric], truth)]
        times = [mean([found['seconds'] for found in some]) for some in (after, metric)]
        print(f'| {value:g} | {agree[0]:.2f} / {agree[1]:.2f} | {" | ".join(ranges)} | '
              f'{times[0] / times[1]:.0f} x |', flush=True)


def order(bench: Bench) -> None:
    """Print what re-ordering tied channels by the learned scores would change."""
    case = bench.case
    searcher = bench.make(LeGR, case.targets, 0, **legr_options(case))
    history, *_ = bench.run(searcher)
    genotype, _ = searcher.best(history)
    scores = searcher.ladder.scores(genotype.alpha, genotype.kappa)
    ends = np.cumsum([u.width for u in bench.loop.graph.units])[:-1]
    learned = {u.name: np.argsort(-part, kind='stable') for u, part in
               zip(bench.loop.graph.units, np.split(scores, ends))}
    inverse = {name: np.argsort(new) for name, new in learned.items()}
    for value in case.compared:
        policy = searcher.policy_of(genotype, bench.targets([value]))
        same = [len(set(learned[n][:w]) & set(range(w))) for n, w in
                policy.widths.items()]
        share = sum(same) / sum(policy.widths.values())

        def measure(policy: Policy = policy) -> dict:
            permute(bench.loop.model, bench.loop.graph, learned)
            try:
                return bench.evaluated(policy, case.metric)
            finally:
                permute(bench.loop.model, bench.loop.graph, inverse)
        other = bench.get(f'reordered {value} {bench.key(policy)}', measure)
        print(f'{value:g} MACs: {share:.1%} of the kept channels are the same in both '
              f'orders; score {bench.on_search_images(policy):.1f} in the order of '
              f'the base scores, {bench.scale * other["score"]:.1f} in the learned one')


def speed(bench: Bench) -> None:
    """Print the time of deriving a policy, and the share of it in a candidate's."""
    case = bench.case
    searcher = bench.make(LeGR, case.targets, 0, **legr_options(case))
    history, scoring, _ = bench.run(searcher)
    path = FOLDER / 'ranking.json'
    path.write_text(json.dumps(searcher.artefacts(history)['ranking.json']))
    loaded = bench.make(LeGR, case.targets, 0, ranking=str(path))
    targets = bench.targets(np.linspace(min(case.targets), .99, 50).tolist())
    seconds = []
    for target in targets:
        start = time.perf_counter()
        Ranking.load(path)
        loaded.answers((), [target])
        seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    fresh = bench.make(LeGR, case.targets, 0, **legr_options(case))
    for number in range(len(history)):
        fresh.propose(history[:number], number)
    proposing = time.perf_counter() - start
    acting = []
    for entry in history[:10]:
        start = time.perf_counter()
        with torch.no_grad(), bench.loop.mutator.acting(entry.policy):
            pass
        acting.append(time.perf_counter() - start)
    outside = proposing + len(history) * mean(acting)
    print(f'\npolicy of a new target from a ranking file: median '
          f'{1e3 * np.median(seconds):.1f} ms, maximum {1e3 * max(seconds):.1f} ms; '
          f'{len(history) / (scoring + proposing):.2f} candidates a second; proposing '
          f'takes {proposing / (scoring + proposing):.2%} of a candidate\'s time, with '
          f'slicing and lifting {outside / (scoring + proposing):.2%}')


PARTS = dict(compare=compare, many=one_against_many, clock=clock, tau=tau, order=order,
             speed=speed)


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('case', choices=CASES)
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=list(PARTS))
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=METHODS)
    for name in ('evaluations', 'images', 'calibration', 'steps', 'population',
                 'score-steps'):
        parser.add_argument(f'--{name}', type=int)
    for name in ('search-at', 'deviation'):
        parser.add_argument(f'--{name}', type=float)
    for name, what in (('compared', ''), ('tuned', ' after fine-tuning')):
        parser.add_argument(f'--{name}', type=float, nargs='*',
                            help=f'budgets that are compared{what}')
    args = parser.parse_args()
    given = {k: v for k, v in vars(args).items()
             if k in Case.__dataclass_fields__ and v is not None}
    case = replace(CASES[args.case], **given)
    torch.manual_seed(0)
    bench = Bench(args.case, case, args.seeds, args.methods)
    for part in args.parts:
        PARTS[part](bench)


if __name__ == '__main__':
    with loading():  # runners load checkpoints, too
        main()
