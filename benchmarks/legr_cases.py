"""The networks that LeGR is measured on, and how policies are scored and tested."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from common import OUT, ROOT, quiet_config, train_and_test
from mmcompress.openmmlab.search_results import write_checkpoint, write_policy
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmcompress.costs import Target, parse_targets
from mmcompress.data.images import Batch
from mmcompress.evaluation import Finetuning, dynamic_bn, finetune, recalibrate
from mmcompress.openmmlab.cli import load_weights, search_runner
from mmcompress.openmmlab.evaluators import DatasetEvaluator as PolicyEvaluator
from mmcompress.openmmlab.loops.search import PolicySearchLoop
from mmcompress.openmmlab.policy_config import compress_config
from mmcompress.openmmlab.training_images import training_batches
from mmcompress.policy import Policy
from mmcompress.searchers import Evaluated, Searcher

FOLDER = OUT / 'legr'
METHODS = ('LeGR', 'random rankings', 'random policies', 'LeGR, deviation 1')


@dataclass(frozen=True)
class Case:
    """A network and the sizes that suit one CPU core.

    Args:
        config (str): Config of the search.
        recipe (str): Config of the fine-tune.
        metric (str): What is reported, in per cent.
        by (str): What every search scores policies by, on training images.
        test_images (int): Images to test on.
        targets (tuple[float, ...]): Shares of the dense MACs.
        compared (tuple[float, ...]): Those that are compared over seeds.
        tuned (tuple[float, ...]): Those that are compared after fine-tuning.
        search_at (float): Budget at which rankings are scored.
        deviation (float): Of LeGR's draws.
        evaluations, images, calibration, batch (int): Sizes.
        steps (int): SGD steps of the fine-tune, on the recipe's images; 0 follows
            the recipe for two epochs.
        population (int): Of LeGR; 0 for a sixth of the evaluations, at least 4.
        score_steps (int): SGD steps before any policy is scored, on the recipe's
            images without those it is scored on.
        rate (float): Of all SGD steps.
    """

    config: str
    recipe: str
    metric: str
    by: str
    test_images: int
    targets: tuple[float, ...]
    compared: tuple[float, ...]
    tuned: tuple[float, ...]
    search_at: float
    deviation: float = 0.1
    evaluations: int = 100
    images: int = 256
    calibration: int = 128
    batch: int = 128
    steps: int = 20
    population: int = 0
    score_steps: int = 0
    rate: float = 0.01


RESNET56 = Case(
    'configs/legr/legr_resnet56_cifar10.py', 'configs/cifar/resnet56_cifar10.py',
    'accuracy/top1', 'loss', 1017, (.8, .7, .6, .5, .4, .3, .2), (.7, .5, .3),
    (.5, .3), 0.4)
CASES = {
    'resnet56': RESNET56,
    'resnet56_jpeg': replace(
        RESNET56, config='configs/legr/legr_resnet56_cifar10-jpeg.py',
        recipe='configs/cifar/resnet56_cifar10-jpeg.py', compared=(.5, .3),
        tuned=(.5,)),
    'yolox_nano': Case(
        'configs/legr/legr_yolox-nano_coco128.py',
        'configs/yolox/yolox_nano_coco128_finetune.py', 'coco/bbox_mAP',
        'coco/bbox_mAP', 128, (.95, .9, .85, .8), (.95, .9), (.95,), 0.95,
        evaluations=16, images=96, calibration=32, batch=8, steps=0, rate=0.001),
}


class Bench:
    """A prepared model, and what was measured on it so far."""

    def __init__(
        self, name: str, case: Case, seeds: int, methods: Sequence[str] = METHODS
    ) -> None:
        self.case, self.seeds, self.methods = case, seeds, methods
        cfg = Config.fromfile(ROOT / case.config)
        cfg.work_dir = str(FOLDER / name)
        # The loop only prepares; its study is not used.
        (FOLDER / name / 'search.db').unlink(missing_ok=True)
        evaluator = cfg.search_cfg.evaluator
        evaluator.update(
            metric=case.metric, images=case.images, batch_size=case.batch,
            calibration_images=case.calibration)
        if case.score_steps:
            evaluator.finetune = dict(
                steps=case.score_steps, lr=case.rate, batch_size=case.batch)
            recipe = Config.fromfile(ROOT / case.recipe)
            cfg.train_dataloader = recipe.train_dataloader
            if 'data_preprocessor' in recipe.model:
                cfg.model.data_preprocessor = recipe.model.data_preprocessor
        cfg.search_cfg.targets = dict(macs=list(case.targets))
        init_default_scope(cfg.default_scope)
        runner = search_runner(cfg)
        load_weights(runner.model, cfg.load_from)
        options = {k: v for k, v in cfg.search_cfg.items() if k != 'type'}
        self.loop = PolicySearchLoop(runner, **options)
        self.loop.prepare()
        self.space, self.costs = self.loop.space, self.loop.costs
        self.cfg, self.scale = cfg, 100 if 'mAP' in case.metric else 1
        self.path = FOLDER / name / f'measured_{case.images}_{case.calibration}.jsonl'
        lines = self.path.read_text().splitlines() if self.path.is_file() else []
        self.known = dict(json.loads(line) for line in lines)
        self.test = PolicyEvaluator(
            case.metric, case.test_images, 0, 'off', cfg.test_dataloader.dataset,
            batch_size=case.batch)
        self.test.prepare(self.loop.model, cfg)

    def get(self, key: str, measure: Callable[[], dict | list | float]):
        """A value that is measured once and kept."""
        if key not in self.known:
            self.known[key] = measure()
            with self.path.open('a') as file:
                file.write(json.dumps([key, self.known[key]]) + '\n')
        return self.known[key]

    def key(self, policy: Policy) -> str:
        """Name of a policy: its widths."""
        row = self.space.encode(policy)[0][:len(self.space.units)]
        return ' '.join(map(str, row.tolist()))

    def score(self, policy: Policy, by: str | None = None) -> dict:
        """Score on the images of the search, and the time it took.

        Args:
            policy (Policy): The policy.
            by (str | None): The case's metric, or ``'loss'``, negated. Defaults to
                what the searches score by.
        """
        by, steps = by or self.case.by, self.case.score_steps
        after = f'after {steps} ' if steps else ''
        return self.get(
            f'{after}{by} {self.key(policy)}', lambda: self.evaluated(policy, by))

    def evaluated(self, policy: Policy, by: str) -> dict:
        """:meth:`score`, measured now."""
        evaluator = self.loop.evaluator
        evaluator.metric = by
        evaluator.rule = 'less' if by == 'loss' else 'greater'
        score = evaluator.evaluate(policy, self.loop.mutator)
        return dict(score=score.value, seconds=score.seconds)

    def on_search_images(self, policy: Policy) -> float:
        """Metric on the images of the search."""
        return self.scale * self.score(policy, self.case.metric)['score']

    def tested(self, policy: Policy) -> float:
        """Metric on the test images, norms recalibrated on training images."""
        def measure() -> float:
            calibration = self.loop.evaluator.calibration
            with torch.no_grad(), self.loop.mutator.acting(policy), \
                    dynamic_bn(self.loop.model, 'recalibrate', calibration):
                return self.test.measure(self.loop.model)[self.case.metric]
        return self.scale * self.get(f'test {self.key(policy)}', measure)

    def tuned(self, policy: Policy) -> float:
        """Metric on the test images after the same short fine-tune for all."""
        steps = self.case.steps
        tune = self._by_steps if steps else self._by_recipe
        return self.scale * self.get(
            f'tuned {steps} {self.key(policy)}', lambda: tune(policy))

    def _by_steps(self, policy: Policy) -> float:
        case = self.case
        options = Finetuning(case.steps, case.rate, batch_size=case.batch)
        slim = self.loop.mutator.materialise(policy)
        finetune(slim, self.training, options, 0)
        recalibrate(slim, self.loop.evaluator.calibration)
        return self.test.measure(slim)[case.metric]

    def _by_recipe(self, policy: Policy) -> float:
        loop = self.loop
        path = self.path.with_name('tuned.json')
        found = Evaluated(0, policy, 0.0, self.costs.of(policy))
        write_policy(path, found, loop.graph, loop.mutator, {})
        write_checkpoint(path.with_suffix('.pth'), found, loop.mutator, loop.evaluator)
        # A name of its own: mmengine keeps loggers and counters by it.
        name = hashlib.sha256(self.key(policy).encode()).hexdigest()[:12]
        cfg = quiet_config(self.case.recipe, path.with_name(name))
        compress_config(cfg, str(path))
        return train_and_test(cfg, epochs=2)[self.case.metric]

    @cached_property
    def training(self) -> list[Batch]:
        """Augmented batches for the fine-tune."""
        case, cfg = self.case, Config.fromfile(ROOT / self.case.recipe)
        options = Finetuning(steps=case.steps, batch_size=case.batch)
        preprocessor = copy.deepcopy(self.loop.model.data_preprocessor)
        preprocessor.batch_augments = None  # The recipe decides.
        return training_batches(cfg, preprocessor, options, [], 0)

    def targets(self, values: Sequence[float]) -> tuple[Target, ...]:
        """Targets on the MACs."""
        return parse_targets({'macs': list(values)}, self.costs)

    def make(self, kind: type[Searcher], values: Sequence[float], seed: int,
             **options) -> Searcher:
        """A searcher over this model."""
        if 'scores' in kind.needs:
            options['scores'] = self.loop.mutator.scores
        return kind(self.space, self.costs, self.targets(values), seed=seed,
                    evaluations=self.case.evaluations, **options)

    def run(
        self, searcher: Searcher
    ) -> tuple[list[Evaluated], float, float]:
        """Search; returns the history, seconds of scoring and of everything else."""
        history, scoring, other = [], 0.0, 0.0
        for number in range(searcher.evaluations):
            start = time.perf_counter()
            policy = searcher.propose(history, number)
            other += time.perf_counter() - start
            if policy is None:
                break
            found = self.score(policy)
            scoring += found['seconds']
            history.append(Evaluated(
                number, policy, found['score'], self.costs.of(policy)))
            print(f'{type(searcher).__name__} seed {searcher.seed} '
                  f'[{number + 1}/{searcher.evaluations}] {found["score"]:.4f}',
                  flush=True)
        return history, scoring, other


def legr_options(case: Case, random_only: bool = False) -> dict:
    """The paper's 64 of 400 and 16 of 64, scaled down, and the case's settings."""
    population = case.evaluations if random_only else \
        case.population or max(4, case.evaluations // 6)
    return dict(
        population=population, tournament=max(2, population // 4),
        deviation=case.deviation, search_at=dict(macs=case.search_at))
