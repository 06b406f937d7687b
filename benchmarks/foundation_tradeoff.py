"""Trade-offs of Uniform, Random and Evolution at equal evaluations.

Every search scores policies on training images, calibrated on other training images.
The best policy of every budget is then tested on images no search has seen: as it is,
with batch norms recalibrated on all training images, and after the same short
fine-tune for all. Equal policies are tested once. Kill it and run the same command
again: it continues.

    python benchmarks/foundation_tradeoff.py resnet56
    python benchmarks/foundation_tradeoff.py yolox_nano

The defaults fit two CPU cores. On a GPU raise --evaluations, --images,
--calibration-images and --epochs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from common import OUT, Results, machine, quiet_config, train_and_test
from mmengine.config import Config
from mmengine.runner import Runner, save_checkpoint

from mmcompress.evaluation.dynamic_bn import recalibrate
from mmcompress.openmmlab.checkpoints import loading
from mmcompress.openmmlab.cli import load_weights, search_runner
from mmcompress.openmmlab.images import build_dataset, load_batches, search_dataset
from mmcompress.openmmlab.policy_config import compress_config
from mmcompress.registry import LOOPS
from mmcompress.report.tables import TextTable

SEARCHERS = ('Uniform', 'Random', 'Evolution')


@dataclass(frozen=True)
class Case:
    """A network and the sizes that suit two CPU cores.

    Args:
        search (str): Config of the search.
        finetune (str): Config of the fine-tune.
        metric (str): What the test returns.
        scale (float): From the metric to the unit of the tables.
        divisor (int): Of the channel counts; 1 gives every searcher, Uniform above
            all, policies close to its budgets.
        targets (tuple[float, ...]): Shares of the dense MACs.
        evaluations, images, calibration_images, epochs (int): Sizes.
    """

    search: str
    finetune: str
    metric: str
    scale: float
    divisor: int
    targets: tuple[float, ...]
    evaluations: int
    images: int
    calibration_images: int
    epochs: int


CASES = {
    'resnet56': Case(
        'configs/evolution/evolution_resnet56_cifar10.py',
        'configs/cifar/resnet56_cifar10.py', 'accuracy/top1', 1, 1,
        (0.748, 0.623, 0.498, 0.348), 48, 500, 250, 2),
    'yolox_nano': Case(
        'configs/evolution/evolution_yolox-nano_coco128.py',
        'configs/yolox/yolox_nano_coco128_finetune.py', 'coco/bbox_mAP', 100, 1,
        (0.95, 0.9, 0.85, 0.8), 40, 96, 32, 2),
}


@dataclass(frozen=True)
class Found:
    """The best policy of one budget of one search.

    Args:
        searcher, seed, target: Where it comes from.
        file (Path): Its policy file; the slim checkpoint is beside it.
        macs (float): Share of the dense MACs.
        score (float): On the search images, in the unit of the metric.
    """

    searcher: str
    seed: int
    target: float
    file: Path
    macs: float
    score: float

    @property
    def key(self) -> str:
        """The same for equal policies, whichever search found them."""
        widths = json.loads(self.file.read_text())['widths']
        return hashlib.sha256(json.dumps(widths, sort_keys=True).encode()).hexdigest()


def search(case: Case, args: argparse.Namespace, searcher: str, seed: int) -> dict:
    """Run, or continue, one search; files are in its work dir afterwards.

    Returns:
        dict: ``dense``: score of the dense model on the search images. ``rows``: by
        target, score and MACs of the best policy. ``overhead``: share of the
        search spent outside evaluations.
    """
    cfg = quiet_config(case.search, args.out / f'{searcher}_{seed}')
    cfg.compression.channel.divisor = case.divisor
    options = cfg.search_cfg
    options.searcher = dict(type=searcher, evaluations=args.evaluations, seed=seed)
    options.evaluator.update(
        images=args.images, calibration_images=args.calibration_images)
    options.targets = dict(macs=list(args.targets))
    runner = search_runner(cfg)
    load_weights(runner.model, cfg.load_from)
    loop = LOOPS.build(dict(options, runner=runner, _scope_='mmcompress'))
    outcome = loop.run()
    rows = {row.target: dict(score=row.score, macs=row.macs_ratio)
            for row in outcome.tradeoff.rows if row.policy}
    return dict(
        dense=loop.dense_score, rows=rows, evaluations=len(loop.study.history()),
        overhead=1 - loop.evaluation_seconds / loop.total_seconds)


def tuning_config(case: Case, args: argparse.Namespace, found: Found | None) -> Config:
    """The fine-tune's config with the policy's network, or the dense one."""
    name = f'policy_{found.key[:12]}' if found else 'dense'
    cfg = quiet_config(case.finetune, args.out / name)
    if found:
        compress_config(cfg, str(found.file))
    return cfg


def recalibrated(case: Case, args: argparse.Namespace, found: Found) -> str:
    """Checkpoint of a policy with batch-norm statistics of all training images."""
    cfg = tuning_config(case, args, found)
    runner = Runner.from_cfg(cfg)
    model = runner.model.eval()
    load_weights(model, cfg.load_from)
    dataset = build_dataset(search_dataset(quiet_config(case.search, args.out)))
    recalibrate(model, load_batches(
        dataset, range(len(dataset)), model.data_preprocessor, 32))
    path = Path(cfg.work_dir) / 'recalibrated.pth'
    save_checkpoint(dict(state_dict=model.state_dict()), str(path))
    return str(path)


def test(
    case: Case, args: argparse.Namespace, found: Found | None, checkpoint: str | None
) -> float:
    """Metric on the test images, as tools/test.py measures it."""
    cfg = tuning_config(case, args, found)
    cfg.load_from = checkpoint or cfg.load_from
    return Runner.from_cfg(cfg).test()[case.metric]


def tune(
    case: Case, args: argparse.Namespace, found: Found | None, checkpoint: str | None
) -> float:
    """Metric on the test images after the fine-tune, as tools/train.py does it."""
    cfg = tuning_config(case, args, found)
    cfg.load_from = checkpoint or cfg.load_from
    return train_and_test(cfg, args.epochs)[case.metric]


def policies(args: argparse.Namespace, searches: Mapping[str, dict]) -> list[Found]:
    """The best policy of every budget of every search."""
    found = []
    for key, result in searches.items():
        searcher, seed = key.rsplit('_', 1)
        for target in args.targets:
            name = f'macs_{target:g}'
            if name in result['rows']:
                found.append(Found(
                    searcher, int(seed), target,
                    args.out / key / 'policies' / f'{name}.json',
                    **result['rows'][name]))
    return found


def measure(case: Case, args: argparse.Namespace, found: Sequence[Found],
            results: Results) -> dict[str, tuple[float, float | None]]:
    """Test score of every policy as searched and after the fine-tune.

    Only the first seed's are fine-tuned, budget by budget; its table is complete first.
    """
    scores: dict[str, tuple[float, float | None]] = {}
    tuned = () if args.no_finetune else ('after',)
    first = [p for target in args.targets for p in found
             if p.target == target and p.seed == args.seeds[0]]
    rest = [p for p in found if p.seed != args.seeds[0]]
    for stage, some in (('before', first), *((t, first) for t in tuned),
                        ('before', rest)):
        for policy in some:
            key = policy.key
            path = results.get(
                f'file {key}', lambda p=policy: recalibrated(case, args, p))
            before = results.get(
                f'test {key}', lambda p=policy, f=path: test(case, args, p, f))
            after = scores.get(key, (None, None))[1]
            if stage == 'after':
                after = results.get(
                    f'tune {key}', lambda p=policy, f=path: tune(case, args, p, f))
            scores[key] = before, after
            print(f'{policy.searcher} {policy.seed} {policy.target}: search '
                  f'{policy.score:.4f}, test {before}, fine-tuned {after}', flush=True)
    scores['dense'] = (
        results.get('test dense', lambda: test(case, args, None, None)),
        results.get('tune dense', lambda: tune(case, args, None, None))
        if tuned else None)
    return scores


def main_table(
    case: Case, args: argparse.Namespace, searches: Mapping[str, dict],
    found: Sequence[Found], scores: Mapping[str, tuple[float, float | None]],
) -> TextTable:
    """Every budget and searcher of the first seed."""
    def cell(value: float | None) -> str:
        return '' if value is None else f'{value * case.scale:.1f}'

    dense = next(iter(searches.values()))['dense']
    rows = [('dense', '', '1.000', *map(cell, (dense, *scores['dense'])))]
    rows += [
        (f'{p.target:g}', p.searcher, f'{p.macs:.3f}',
         *map(cell, (p.score, *scores[p.key])))
        for target in args.targets for p in found
        if p.target == target and p.seed == args.seeds[0]]
    return TextTable(
        f'{args.case}: {args.evaluations} evaluations each, seed {args.seeds[0]}',
        ('MACs budget', 'searcher', 'MACs kept', 'search images', 'test',
         f'test after {args.epochs} epochs'), tuple(rows), left=2)


def seed_table(
    case: Case, args: argparse.Namespace, found: Sequence[Found],
    scores: Mapping[str, tuple[float, float | None]],
) -> TextTable:
    """Mean and standard deviation over the seeds, before the fine-tune."""
    groups: dict[tuple[float, str], list[Found]] = defaultdict(list)
    for policy in found:
        groups[policy.target, policy.searcher].append(policy)

    def cell(values: list[float]) -> str:
        values = [v * case.scale for v in values]
        spread = f' ± {stdev(values):.1f}' if len(values) > 1 else ''
        return f'{mean(values):.1f}{spread}'

    rows = [
        (f'{target:g}', name, str(len(group)), cell([p.score for p in group]),
         cell([scores[p.key][0] for p in group]))
        for (target, name), group in sorted(
            groups.items(), key=lambda item: -item[0][0])]
    return TextTable(
        f'{args.case}: mean ± standard deviation over seeds, no fine-tune',
        ('MACs budget', 'searcher', 'seeds', 'search images', 'test'),
        tuple(rows), left=2)


def overhead_table(searches: Mapping[str, dict]) -> TextTable:
    """What the searches themselves report."""
    rows = tuple(
        (key.replace('_', ', seed '), str(result['evaluations']),
         f'{result["overhead"]:.1%}') for key, result in searches.items())
    return TextTable('Time outside evaluation', (
        'search', 'evaluations', 'share of the time outside them'), rows)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('case', choices=CASES)
    parser.add_argument('--searchers', nargs='+', default=SEARCHERS)
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2],
                        help='the first one is fine-tuned; Uniform has no others')
    parser.add_argument('--targets', nargs='+', type=float)
    for name in ('evaluations', 'images', 'calibration_images', 'epochs'):
        parser.add_argument(f'--{name.replace("_", "-")}', type=int)
    parser.add_argument('--no-finetune', action='store_true',
                        help='stop at the scores before it')
    parser.add_argument('--out', type=Path, help='where to write')
    args = parser.parse_args()
    case = CASES[args.case]
    for name in ('targets', 'evaluations', 'images', 'calibration_images', 'epochs'):
        if getattr(args, name) is None:
            setattr(args, name, getattr(case, name))
    args.out = args.out or OUT / f'foundation_tradeoff_{args.case}'
    return args


def main() -> None:
    args = parse_args()
    case = CASES[args.case]
    settings = {k: v for k, v in vars(args).items()
                if k not in ('searchers', 'seeds', 'no_finetune', 'out')}
    results = Results(args.out / 'results.json', settings)
    searches = {}
    for seed in args.seeds:
        for name in args.searchers:
            if name != 'Uniform' or seed == args.seeds[0]:
                searches[f'{name}_{seed}'] = results.get(
                    f'search {name} {seed}',
                    lambda n=name, s=seed: search(case, args, n, s))
    found = policies(args, searches)
    scores = measure(case, args, found, results)
    print(f'\n{machine()}')
    for table in (main_table(case, args, searches, found, scores),
                  seed_table(case, args, found, scores), overhead_table(searches)):
        print(f'\n{table.title}\n\n{table.markdown()}')


if __name__ == '__main__':
    with loading():  # runners load checkpoints, too
        main()
