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
from dataclasses import dataclass
from pathlib import Path

import harness
from harness import (
    OUT,
    Bench,
    Results,
    add_sizes,
    machine,
    parser,
    quiet_config,
    rebuilt,
    show,
    spread,
)
from mmengine.runner import Runner, save_checkpoint

from mmcompress.api.run import SearchRun
from mmcompress.evaluation import recalibrate
from mmcompress.openmmlab.cli import load_weights
from mmcompress.openmmlab.images import build_dataset, load_batches, search_dataset
from mmcompress.openmmlab.policy_config import compress_config

SEARCHERS = ('Uniform', 'Random', 'Evolution')
CASES = {
    'resnet56': harness.Case(
        config='configs/evolution/evolution_resnet56_cifar10.py',
        recipe='configs/cifar/resnet56_cifar10.py', images=500, calibration=250,
        targets=(0.748, 0.623, 0.498, 0.348), evaluations=48),
    'yolox_nano': harness.Case(
        config='configs/evolution/evolution_yolox-nano_coco128.py',
        recipe='configs/yolox/yolox_nano_coco128_finetune.py', metric='coco/bbox_mAP',
        images=96, calibration=32, targets=(0.95, 0.9, 0.85, 0.8), evaluations=40),
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


class Tradeoff:
    """Searches of one case, and tests of what they find."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.case = args, CASES[args.case].changed(args)
        self.out = args.out or OUT / f'foundation_tradeoff_{args.case}'
        self.results = Results(self.out / 'results.json', vars(self.case))
        self.searches = {
            (name, seed): self.results.get(
                f'search {name} {seed}', lambda n=name, s=seed: self.search(n, s))
            for seed in args.seeds for name in args.searchers
            if name != 'Uniform' or seed == args.seeds[0]}
        self.found = [
            Found(searcher, seed, target, self.folder(searcher, seed) / 'policies'
                  / f'{name}.json', **result['rows'][name])
            for (searcher, seed), result in self.searches.items()
            for target in self.case.targets
            if (name := f'macs_{target:g}') in result['rows']]

    def folder(self, searcher: str, seed: int) -> Path:
        """Work dir of a search."""
        return self.out / f'{searcher}_{seed}'

    def search(self, searcher: str, seed: int) -> dict:
        """Run, or continue, one search; files are in its work dir afterwards.

        Returns:
            dict: ``dense``: score of the dense model on the search images. ``rows``:
            by target, score and MACs of the best policy. ``overhead``: share of the
            search spent outside evaluations.
        """
        case, bench = self.case, Bench(self.case, self.folder(searcher, seed))
        # Single channels give every searcher, Uniform above all, policies close to
        # its budgets.
        bench.cfg.compression.channel.divisor = 1
        run = SearchRun(bench.session, dict(
            type=searcher, evaluations=case.evaluations, seed=seed),
            dict(macs=list(case.targets)), bench.folder)
        outcome = run.run()
        rows = {row.target: dict(score=row.score, macs=row.macs_ratio)
                for row in outcome.tradeoff.rows if row.policy}
        return dict(
            dense=run.dense_score, rows=rows, evaluations=len(run.study.history()),
            overhead=1 - run.evaluation_seconds / run.total_seconds)

    def config(self, found: Found | None):
        """The fine-tune's config, with a work dir for the policy."""
        name = f'policy_{found.key[:12]}' if found else 'dense'
        return quiet_config(self.case.recipe, self.out / name)

    def recalibrated(self, found: Found) -> str:
        """Checkpoint of a policy with batch-norm statistics of all training images."""
        cfg = self.config(found)
        compress_config(cfg, str(found.file))
        model = Runner.from_cfg(cfg).model.eval()
        load_weights(model, cfg.load_from)
        spec = search_dataset(quiet_config(self.case.config, self.out))
        dataset = build_dataset(spec)
        recalibrate(model, load_batches(
            dataset, range(len(dataset)), model.data_preprocessor, 32))
        path = Path(cfg.work_dir) / 'recalibrated.pth'
        save_checkpoint(dict(state_dict=model.state_dict()), str(path))
        return str(path)

    def tested(self, found: Found | None, epochs: int = 0) -> float:
        """Per cent on the test images; after some epochs of the recipe, if any."""
        key, file, checkpoint = 'dense', None, None
        if found:
            key, file = found.key, found.file
            checkpoint = self.results.get(
                f'file {key}', lambda: self.recalibrated(found))
        value = self.results.get(
            f'{"tune" if epochs else "test"} {key}', lambda: rebuilt(
                self.config(found), self.case.metric, file, checkpoint, epochs))
        print(found, f'after {epochs} epochs', value, flush=True)
        return self.case.scale * value

    def main_table(self) -> None:
        """Every budget and searcher of the first seed, tested and fine-tuned."""
        case, seed = self.case, self.args.seeds[0]
        first = [p for target in case.targets for p in self.found
                 if p.target == target and p.seed == seed]
        epochs = [0] if self.args.no_finetune else [0, case.epochs]
        dense = next(iter(self.searches.values()))['dense'] * case.scale
        tests = [[self.tested(p, n) for p in (None, *first)] for n in epochs]
        facts = [('dense', '', '1.000', f'{dense:.1f}'), *(
            (f'{p.target:g}', p.searcher, f'{p.macs:.3f}',
             f'{p.score * case.scale:.1f}') for p in first)]
        rows = [(*fact, *(f'{v:.1f}' for v in values))
                for fact, *values in zip(facts, *tests)]
        show(f'{self.args.case}: {case.evaluations} evaluations each, seed {seed}',
             ('MACs budget', 'searcher', 'MACs kept', 'search images', 'test',
              f'test after {case.epochs} epochs')[:4 + len(epochs)], rows, left=2)

    def seed_table(self) -> None:
        """Mean and standard deviation over the seeds, before the fine-tune."""
        groups: dict[tuple[float, str], list[Found]] = {}
        for policy in self.found:
            groups.setdefault((policy.target, policy.searcher), []).append(policy)
        rows = [(f'{target:g}', name, len(group),
                 spread([p.score * self.case.scale for p in group]),
                 spread([self.tested(p) for p in group]))
                for (target, name), group in sorted(
                    groups.items(), key=lambda item: -item[0][0])]
        show(f'{self.args.case}: mean ± standard deviation over seeds, no fine-tune',
             ('MACs budget', 'searcher', 'seeds', 'search images', 'test'), rows, 2)

    def overhead_table(self) -> None:
        """What the searches themselves report."""
        show('Time outside evaluation', (
            'search', 'evaluations', 'share of the time outside them'), [
                (f'{name}, seed {seed}', result['evaluations'],
                 f'{result["overhead"]:.1%}')
                for (name, seed), result in self.searches.items()])


def main() -> None:
    """Search, test, fine-tune; print the tables."""
    options = parser(__doc__)
    options.add_argument('case', choices=CASES)
    options.add_argument('--searchers', nargs='+', default=SEARCHERS)
    options.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2],
                         help='the first one is fine-tuned; Uniform has no others')
    add_sizes(options, ('targets',), float, nargs='+')
    add_sizes(options, ('evaluations', 'images', 'epochs'))
    options.add_argument('--calibration-images', dest='calibration', type=int)
    options.add_argument('--no-finetune', action='store_true',
                         help='stop at the scores before it')
    options.add_argument('--out', type=Path, help='where to write')
    bench = Tradeoff(options.parse_args())
    print(machine())
    for table in (bench.main_table, bench.seed_table, bench.overhead_table):
        table()


if __name__ == '__main__':
    harness.start(main)
