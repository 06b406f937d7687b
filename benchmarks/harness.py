"""What all benchmarks share: cases, prepared models, results that resume, tables."""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import nn

import mmcompress  # noqa: F401  (must precede mmdet and mmpretrain)
from mmcompress.costs import Costs, CostTable, Target, parse_targets
from mmcompress.data.images import Batch
from mmcompress.evaluation import Finetuning, dynamic_bn, finetune
from mmcompress.files import write_text
from mmcompress.graph import trace
from mmcompress.kinds import kind_of
from mmcompress.layers.quantised import quantised_layers
from mmcompress.mutators.rebuild import quantise
from mmcompress.openmmlab.checkpoints import loading
from mmcompress.openmmlab.cli import build_model, load_weights
from mmcompress.openmmlab.evaluators import DatasetEvaluator
from mmcompress.openmmlab.images import build_dataset
from mmcompress.openmmlab.input_shape import input_shape_of
from mmcompress.openmmlab.metrics import full_precision
from mmcompress.openmmlab.models.compressed import with_preprocessor
from mmcompress.openmmlab.policy_config import compress_config
from mmcompress.openmmlab.sessions import session_of_file
from mmcompress.openmmlab.training_images import training_batches
from mmcompress.policy import Bits, ModelGraph, Policy, SearchSpace
from mmcompress.quant.calibration import calibrate
from mmcompress.report.tables import TextTable
from mmcompress.searchers import Evaluated, Random, Searcher
from mmcompress.searchers.starts import largest_uniform, uniform_rows
from mmcompress.session import Session, open_session

ROOT = Path(__file__).resolve().parents[1]
OUT = Path('work_dirs/benchmarks')


# -- networks ------------------------------------------------------------------
@dataclass(frozen=True)
class Network:
    """A network to measure.

    Args:
        name (str): As tables show it.
        config (str): A file below the repository's root, or ``package::file``.
        shape (tuple[int, int, int]): ``(C, H, W)`` that costs refer to.
    """

    name: str
    config: str
    shape: tuple[int, int, int]

    def read(self) -> Config:
        """The config; its scope becomes the default one."""
        cfg = (get_config(self.config) if '::' in self.config
               else Config.fromfile(ROOT / self.config))
        init_default_scope(cfg.get('default_scope', 'mmengine'))
        return cfg

    def build(self) -> nn.Module:
        """The model, with the weights of ``load_from`` if they are on this disk.

        Otherwise it keeps its layers' default initialisation: ``init_weights`` would
        download the backbone's.
        """
        cfg = self.read()
        torch.manual_seed(0)
        model = MODELS.build(with_preprocessor(cfg.model, cfg.get('data_preprocessor')))
        if cfg.get('load_from') and os.path.isfile(cfg.load_from):
            load_weights(model, cfg.load_from)
        return model.eval()


IMAGENET = (3, 224, 224)
NETWORKS = {network.name: network for network in (
    Network('CifarResNet-20', 'configs/cifar/resnet20_cifar10.py', (3, 32, 32)),
    Network('CifarResNet-56', 'configs/cifar/resnet56_cifar10.py', (3, 32, 32)),
    Network('ResNet-18', 'mmpretrain::resnet/resnet18_8xb32_in1k.py', IMAGENET),
    Network('ResNet-50', 'mmpretrain::resnet/resnet50_8xb32_in1k.py', IMAGENET),
    Network('MobileNetV2', 'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py',
            IMAGENET),
    Network('YOLOX-nano', 'configs/yolox/yolox_nano_coco128.py', (3, 416, 416)),
    Network('RTMDet-tiny', 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
            (3, 640, 640)),
    Network('RetinaNet-R50', 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
            (3, 800, 1344)),
    Network('Faster R-CNN R50', 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
            (3, 800, 1344)),
)}


def uniform_widths(space: SearchSpace, costs: Costs, target: Target) -> Policy:
    """The largest uniform policy within a budget."""
    row = uniform_rows(space)[1][largest_uniform(space, costs, target)]
    return space.decode(row[None])[0]


def put_in_integers(model: nn.Module, graph: ModelGraph) -> list[np.ndarray]:
    """Put all layers at W8A8, with ranges of one random image; only time matters.

    Args:
        model (nn.Module): Changed in place; may be slim.
        graph (ModelGraph): Of the dense model.

    Returns:
        list[np.ndarray]: The image, for the export.
    """
    kind = kind_of(model)
    image = kind.images(model, graph.input_shape, 1)
    samples = kind.example(model, graph.input_shape).data_samples
    layers = {x.name: Bits(8, 8) for x in graph.layers}
    quantise(model, Policy(bits=layers), graph.trace_shape)
    calibrate(model, quantised_layers(model), [Batch(image, samples)])
    return [image.numpy()]


# -- configs and files ---------------------------------------------------------
def quiet_config(path: str, work_dir: Path) -> Config:
    """A config of the repository, for one process that says little."""
    cfg = Config.fromfile(ROOT / path)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    cfg.work_dir, cfg.launcher, cfg.log_level = str(work_dir), 'none', 'WARNING'
    # mmengine keeps loggers and counters by this name for the whole process.
    cfg.experiment_name = '_'.join(work_dir.parts)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[name].update(num_workers=0, persistent_workers=False)
    return cfg


def save_last(cfg: Config, epochs: int, seed: int) -> None:
    """Train for some epochs from a seed, test nothing, keep the last checkpoint."""
    cfg.train_cfg.update(max_epochs=epochs, val_begin=10**6)
    cfg.default_hooks.checkpoint = dict(
        type='CheckpointHook', interval=epochs, save_optimizer=False)
    cfg.randomness = dict(seed=seed)


def train_and_test(cfg: Config, metric: str) -> float:
    """A metric on the test images after the training that a config describes."""
    runner = Runner.from_cfg(cfg)
    runner.train()
    return tested(runner, metric)


def tested(runner: Runner, metric: str) -> float:
    """A metric of a runner's model on the test images, not rounded."""
    with full_precision(runner.test_loop.evaluator):
        return runner.test()[metric]


def rebuilt(cfg: Config, metric: str, file: Path | None = None,
            checkpoint: str | None = None, epochs: int = 0) -> float:
    """A metric on the test images of the network that a policy file describes.

    Args:
        cfg (Config): Of the dense network; changed.
        metric (str): Its name.
        file (Path | None): The policy file. Defaults to None: the dense network.
        checkpoint (str | None): Weights. Defaults to those beside the file, else
            those of the config.
        epochs (int): Of training before the test, as tools/train.py trains.
    """
    if file:
        compress_config(cfg, str(file))
    cfg.load_from = checkpoint or cfg.load_from
    if epochs:
        cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs + 1)
        cfg.experiment_name += '_train'
        return train_and_test(cfg, metric)
    runner = Runner.from_cfg(cfg)
    load_weights(runner.model, cfg.load_from)
    return tested(runner, metric)


class Results:
    """Numbers in a JSON file; what is there is not measured again.

    Args:
        path (Path): The file.
        settings (Mapping): What the numbers depend on; others start a new file.
    """

    def __init__(self, path: Path, settings: Mapping) -> None:
        self.path = path
        self.settings = json.loads(json.dumps(dict(settings), default=str))

    @property
    def values(self) -> dict[str, Any]:
        """What is stored; another process may have added to it."""
        found = json.loads(self.path.read_text()) if self.path.is_file() else {}
        return found['values'] if found.get('settings') == self.settings else {}

    def get(self, key: str, measure: Callable[[], Any]) -> Any:
        """The value of ``key``, measured and stored if it is not there yet."""
        known = self.values
        if key not in known:
            value = measure()
            # While this was measured another process may have written.
            known = {**self.values, key: value}
            write_text(self.path, json.dumps(
                dict(settings=self.settings, values=known), indent=1))
        return known[key]


# -- command lines and tables ---------------------------------------------------
def parser(doc: str) -> argparse.ArgumentParser:
    """A parser that shows a script's docstring, with its commands, as it is."""
    return argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_sizes(options: argparse.ArgumentParser, names: Sequence[str],
              kind: type = int, **settings: Any) -> None:
    """Let the command line replace fields of a case."""
    for name in names:
        options.add_argument(f'--{name.replace("_", "-")}', type=kind, **{
            'help': "instead of the case's", **settings})


def start(main: Callable[[], None]) -> None:
    """Run a script; no checkpoint that it or a runner loads can run code."""
    with loading():
        main()


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[str]],
         left: int = 1) -> None:
    """Print a table as Markdown below its title."""
    table = TextTable('', tuple(header), tuple(tuple(map(str, r)) for r in rows), left)
    print(f'\n{title}\n\n{table.markdown()}', flush=True)


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean and, over several values, standard deviation."""
    text = f'{mean(values):.{digits}f}'
    return text + (f' ± {stdev(values):.{digits}f}' if len(values) > 1 else '')


def machine() -> str:
    """One line on what ran the benchmark."""
    device = (torch.cuda.get_device_name() if torch.cuda.is_available()
              else f'CPU, {torch.get_num_threads()} threads of {os.cpu_count()} cores')
    return f'Python {platform.python_version()}, torch {torch.__version__}, {device}'


def clock(call: Callable[[], object], repeats: int) -> float:
    """Median seconds of a call, after one that warms up."""
    call()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return median(times)


# -- cases and what is measured on them ------------------------------------------
@dataclass(frozen=True, kw_only=True)
class Case:
    """A network and the sizes that suit two CPU cores; scripts add fields.

    Args:
        config (str): Config of a search; it names dataset and checkpoint.
        metric (str): What is reported.
        images, calibration (int): Training images to score and to calibrate on.
        test (int): Images to test on; 0 for the whole test set.
        forward (int): Images a forward; 0 for as many as the config says.
        targets (tuple[float, ...]): Budgets, as shares of the dense cost.
        evaluations (int): Of a search.
        recipe (str): Config of the fine-tune. Defaults to that of the search.
        steps, batch (int): SGD steps of the fine-tune and images of each.
        rate (float): Their learning rate.
        epochs (int): Of the fine-tune where it follows the recipe.
    """

    config: str
    metric: str = 'accuracy/top1'
    images: int = 256
    calibration: int = 128
    test: int = 0
    forward: int = 0
    targets: tuple[float, ...] = ()
    evaluations: int = 0
    recipe: str = ''
    steps: int = 0
    batch: int = 128
    rate: float = 0.01
    epochs: int = 2

    @property
    def scale(self) -> float:
        """From the metric to per cent."""
        return 100.0 if 'mAP' in self.metric else 1.0

    @property
    def finetuning(self) -> Finetuning:
        """The fine-tune by steps."""
        return Finetuning(self.steps, self.rate, batch_size=self.batch)

    def changed(self, args: argparse.Namespace) -> Case:
        """This case with what the command line says; see :func:`add_sizes`."""
        given = {f.name: value for f in fields(self)
                 if (value := getattr(args, f.name, None)) is not None}
        return replace(self, **given)


def session_on_all(cfg: Config, evaluator: DatasetEvaluator, compression: Mapping
                   ) -> Session:
    """A session that calibrates on the evaluator's images for scores as well.

    For benchmarks that score nothing on training images. Units are not verified.
    """
    model = build_model(cfg, cfg.load_from)
    evaluator.prepare(model, cfg)
    evaluator.keep(model, evaluator.scoring,
                   [*evaluator.scoring, *evaluator.calibration])
    return open_session(model, trace(model, input_shape_of(cfg)), evaluator,
                        compression)


class Bench:
    """A prepared network of a case, and what was measured on it so far.

    Args:
        case (Case): The network and the sizes.
        folder (Path): Results and work dir.
        settings: What numbers depend on besides the case.
    """

    def __init__(self, case: Case, folder: Path, **settings: Any) -> None:
        self.case, self.folder, self.cfg = case, folder, quiet_config(
            case.config, folder)
        evaluator = self.cfg.search_cfg.evaluator
        evaluator.update(metric=case.metric, images=case.images,
                         calibration_images=case.calibration)
        if case.forward:
            evaluator.batch_size = case.forward
        self.results = Results(
            folder / 'measured.json', dict(case=vars(case), **settings))

    @cached_property
    def session(self) -> Session:
        """The network, traced, sorted and calibrated."""
        session = session_of_file(self.cfg)
        print(session.graph.describe(), flush=True)
        return session

    @cached_property
    def costs(self) -> Costs:
        """Costs of policies."""
        return Costs(CostTable.from_graph(self.session.graph), self.session.space)

    @cached_property
    def held_out(self) -> DatasetEvaluator:
        """Measures a network on the test images."""
        spec = self.cfg.test_dataloader.dataset.to_dict()
        found = DatasetEvaluator(
            self.case.metric, self.case.test or len(build_dataset(spec)), 0, 'off',
            spec, self.cfg.test_evaluator.to_dict(),
            self.cfg.search_cfg.evaluator.batch_size)
        found.prepare(self.session.model, self.cfg)
        return found

    def targets(self, cost: str, shares: Sequence[float]) -> tuple[Target, ...]:
        """Budgets on a cost."""
        return parse_targets({cost: list(shares)}, self.costs)

    def key(self, policy: Policy) -> str:
        """Name of a policy among the results."""
        return ' '.join(map(str, self.session.space.encode(policy)[0].tolist()))

    def uniform(self, bits: tuple[int, int]) -> Policy:
        """Every layer at the same bits, but for those with one choice, which is 8."""
        choices = self.session.mutator.space_options['weight_bits']
        return Policy({}, {name: Bits(8, 8) if c == (8,) else Bits(*bits)
                           for name, c in choices.items()})

    def random(self, count: int, targets: Sequence[Target], seed: int = 0
               ) -> list[Policy]:
        """Random policies that use up the budgets in turn."""
        searcher = Random(self.session.space, self.costs, targets,
                          evaluations=count, seed=seed)
        return [searcher.propose((), number) for number in range(count)]

    @contextmanager
    def acting(self, policy: Policy, mode: str, images: Sequence[Batch] | None = None
               ) -> Iterator[nn.Module]:
        """The network as a policy, with batch norms of a mode of Dynamic BN.

        Args:
            policy (Policy): The policy.
            mode (str): See :func:`dynamic_bn`.
            images (Sequence[Batch] | None): Defaults to those of the search.
        """
        session = self.session
        images = session.evaluator.norm_batches(session.mutator) \
            if images is None else images
        with torch.no_grad(), session.mutator.acting(policy), \
                dynamic_bn(session.model, mode, images):
            yield session.model

    def metric_of(self, model: nn.Module, evaluator: DatasetEvaluator | None = None
                  ) -> float:
        """The metric, on the test images unless told; 0 where nothing is detected."""
        evaluator = evaluator or self.held_out
        return evaluator.measure(model).get(self.case.metric, 0.0)

    def tested(self, policy: Policy, mode: str = 'recalibrate') -> float:
        """Metric of a policy on the test images, without training."""
        def measure() -> float:
            with self.acting(policy, mode) as model:
                return self.metric_of(model)
        return self.results.get(f'tested {mode} {self.key(policy)}', measure)

    def scored(self, policy: Policy) -> dict[str, float]:
        """Score as the search has it: ``score``, ``seconds``, ``processor`` time."""
        def measure() -> dict[str, float]:
            begin = time.process_time()
            score = self.session.score(policy)
            return dict(score=score.value, seconds=score.seconds,
                        processor=time.process_time() - begin)
        metric = self.session.evaluator.metric
        return self.results.get(f'{metric} {self.key(policy)}', measure)

    @cached_property
    def training(self) -> list[Batch]:
        """Augmented batches of the recipe, for the fine-tune by steps."""
        preprocessor, cfg = self.session.model.data_preprocessor, self.cfg
        if self.case.recipe:
            cfg = Config.fromfile(ROOT / self.case.recipe)
            preprocessor = copy.deepcopy(preprocessor)
            preprocessor.batch_augments = None  # The recipe decides.
        return training_batches(cfg, preprocessor, self.case.finetuning, [], 0)

    def finetuned(self, policy: Policy) -> nn.Module:
        """The slim network after the same SGD steps for all, norms recalibrated."""
        self.session.evaluator.norm_batches()
        slim = self.session.mutator.materialise(policy)
        finetune(slim, self.training, self.case.finetuning, 0)
        self.session.evaluator.recalibrate(slim)
        return slim

    def run(self, searcher: Searcher, limit: float = np.inf, spent: float = 0.0
            ) -> tuple[list[Evaluated], float]:
        """Let a searcher propose until its evaluations or its time are used up.

        Args:
            searcher (Searcher): The searcher.
            limit (float): Seconds of processor time.
            spent (float): Of them, those it has used already.

        Returns:
            tuple[list[Evaluated], float]: The history, and seconds of scoring.
        """
        history, scoring = [], 0.0
        while len(history) < searcher.evaluations and spent < limit:
            begin = time.process_time()
            policy = searcher.propose(history, len(history))
            spent += time.process_time() - begin
            if policy is None:
                break
            found = self.scored(policy)
            spent, scoring = spent + found['processor'], scoring + found['seconds']
            history.append(Evaluated(len(history), policy, found['score'],
                                     self.costs.of(policy)))
            print(f'{type(searcher).__name__} seed {searcher.seed} [{len(history)}/'
                  f'{searcher.evaluations}] {found["score"]:.4f}', flush=True)
        return history, scoring
