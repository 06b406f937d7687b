"""Does it run on MY config? Checks that a model of the zoo must pass to count.

A config counts only if its network is built, has units, slices to the same outputs
as zeroing, costs what the slim network costs, and rebuilds from its policy file.
Further checks (:mod:`.further`) have answers of their own. Neither weights nor data are
needed.
"""

from __future__ import annotations

import copy
import importlib.util
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import init_default_scope
from torch import nn

from mmcompress.errors import TraceError
from mmcompress.kinds import kind_of
from mmcompress.mutators import ChannelMutator
from mmcompress.openmmlab.detectors.inputs import is_detector
from mmcompress.openmmlab.input_shape import input_shape_of
from mmcompress.openmmlab.kinds import Classifier
from mmcompress.policy import SearchSpace
from mmcompress.policy.files import PolicyFile
from mmcompress.registry import MODELS
from mmcompress.testing.networks import (
    NetworkReport,
    check_network,
    error,
    outputs,
    random_policy,
)

from .further import answers
from .offline import without_hub
from .subject import Subject

EXACT = 1e-5
"""Error allowed after sorting all channels, in float64."""
CLOSE = 1e-4
"""Error allowed between sliced, zeroed and materialised networks, in float32."""
DETECTOR_SHAPE = (3, 256, 320)
"""Small enough for any machine, with a multiple of every stride in use."""
LARGER_SHAPE = (3, 384, 448)
"""For detectors with a 3 x 3 deformable conv on the coarsest level."""

BOXES = 100
"""Proposals of two-stage detectors: enough to count MACs by, and ten times cheaper."""


class StageError(Exception):
    """A check failed.

    Args:
        stage (str): Name of the check.
        reason (str): What went wrong.
        report (NetworkReport | None): What had been measured by then.
    """

    def __init__(self, stage: str, reason: str, report: NetworkReport | None = None
                 ) -> None:
        super().__init__(reason)
        self.stage, self.reason, self.report = stage, reason, report


@dataclass(frozen=True)
class ZooResult:
    """The outcome for one config.

    Args:
        package (str): ``'mmdet'`` or ``'mmpretrain'``.
        config (str): Path inside the package's configs.
        family (str): What it is listed under.
        stage (str): ``'passed'``, or the check that failed: ``build``, ``trace``,
            ``outputs``, ``costs``, ``rebuild``, ``time``, ``memory`` or ``crash``.
        reason (str): Why it failed.
        units, left_out (int): Units verified; units that failed verification.
        governed (float): Share of the MACs that the units govern.
        macs, params (int): Of the slim network.
        trace_seconds, verify_seconds, seconds (float): Time of tracing, of verifying
            and of everything.
        repair, training, fake_quant, export, distill (str): ``'passed'``, ``'n/a: '``
            and why, or why it failed; empty if not asked for or if a first check
            failed. See :mod:`.further`.
        further_seconds, measured (str): Of each of these, its time and what was
            measured, in words.
        revision (str): Of the code.
    """

    package: str
    config: str
    family: str
    stage: str
    reason: str = ''
    units: int = 0
    left_out: int = 0
    governed: float = 0.0
    macs: int = 0
    params: int = 0
    trace_seconds: float = 0.0
    verify_seconds: float = 0.0
    seconds: float = 0.0
    repair: str = ''
    training: str = ''
    fake_quant: str = ''
    export: str = ''
    distill: str = ''
    further_seconds: str = ''
    measured: str = ''
    revision: str = ''


def check_config(
    package: str, config: str, family: str = '', further: Sequence[str] = ()
) -> ZooResult:
    """The last result of :func:`results_of`: that of all checks."""
    *_, last = results_of(package, config, family, further)
    return last


def results_of(
    package: str, config: str, family: str = '', further: Sequence[str] = (),
    limit: float | None = None,
) -> Iterator[ZooResult]:
    """Run every check on one config of an installed package.

    Args:
        package (str): ``'mmdet'`` or ``'mmpretrain'``.
        config (str): Path inside ``<package>/.mim/configs``.
        family (str): Noted in the result.
        further (Sequence[str]): Names in :data:`.further.FURTHER`: checks that are made
            if the first ones pass.
        limit (float | None): Seconds for each of these. Defaults to no limit.

    Yields:
        ZooResult: That of the first checks; then, before and after each further one,
        the same with what is known by then.
    """
    start, report, subject = time.perf_counter(), None, None
    stage, reason = 'passed', ''
    try:
        report, subject = _check(package, config)
    except StageError as failure:
        stage, reason, report = failure.stage, failure.reason, failure.report
    known = {} if report is None else dict(
        units=report.units, left_out=report.left_out, governed=report.governed,
        macs=report.macs, params=report.params, trace_seconds=report.trace_seconds,
        verify_seconds=report.verify_seconds)
    result = ZooResult(
        package, config, family or family_of(config), stage, reason,
        seconds=time.perf_counter() - start, **known)
    yield result
    for answer in answers(subject, further, limit) if subject else ():
        times, measured = result.further_seconds, result.measured
        if answer.seconds:
            times += f'{answer.name} {answer.seconds:.0f}; '
        if answer.measured:
            measured += f'{answer.name}: {answer.measured}; '
        result = replace(result, further_seconds=times, measured=measured,
                         **{answer.name: answer.status})
        yield result


def family_of(config: str) -> str:
    """Folder of a config, or the beginning of its name if it has none."""
    path = Path(config)
    name = path.parts[0] if len(path.parts) > 1 else path.stem
    return name if len(path.parts) > 1 else name.split('_')[0].split('-')[0]


def _check(package: str, config: str) -> tuple[NetworkReport, Subject]:
    with _stage('build'):
        cfg = load(package, config)
        model = build(cfg.model)
        shape = shape_of(model, cfg)
    mutator = ChannelMutator(divisor=4)
    with _stage('trace'):
        try:
            report = check_network(model, shape, mutator=mutator)
        except TraceError:
            if shape != DETECTOR_SHAPE:
                raise
            report = check_network(model, LARGER_SHAPE, mutator=mutator)
    for name, limit in (('permuted', EXACT), ('zeroed', CLOSE),
                        ('materialised', CLOSE)):
        value = getattr(report, name)
        if not value <= limit:
            raise StageError('outputs', f'{name} differs by {value:.1e}', report)
    for name in ('macs', 'params'):
        told, true = getattr(report, name), getattr(report, f'true_{name}')
        if told != true:
            raise StageError('costs', f'{name}: {told}, counted {true}', report)
    with _stage('rebuild', report):
        difference = rebuild_error(cfg.model, mutator)
    if not difference <= CLOSE:
        raise StageError('rebuild', f'outputs differ by {difference:.1e}', report)
    return report, Subject(cfg.model, mutator)


@contextmanager
def _stage(name: str, report: NetworkReport | None = None) -> Iterator[None]:
    """Name the check in which any model may fail in any way of its own."""
    try:
        yield
    except StageError:
        raise
    except Exception as problem:
        text = ' '.join(f'{type(problem).__name__}: {problem}'.split())
        raise StageError(name, text[:300], report) from problem


def load(package: str, config: str) -> Config:
    """Read a config of an installed package and enter the package's scope."""
    root = Path(importlib.util.find_spec(package).origin).parent / '.mim' / 'configs'
    cfg = Config.fromfile(root / config)
    for part in ('models', 'datasets'):  # CLRNet's preprocessor is among the latter
        importlib.import_module(f'{package}.{part}')
    init_default_scope(package)
    if 'model' not in cfg:
        raise StageError('build', 'the config has no model')
    rpn = (cfg.model.get('test_cfg') or {}).get('rpn')
    if rpn:
        rpn.max_per_img = BOXES
    return cfg


def build(model: dict) -> nn.Module:
    """Build a model without looking for pretrained weights."""
    torch.manual_seed(0)
    _prepare(model)
    # Some models write into their config, which is built once more.
    built = MMENGINE_MODELS.build(copy.deepcopy(model))
    built.eval()  # LAD's returns nothing
    return built


def _prepare(node: object) -> None:
    """Make a config buildable here, in place.

    References to checkpoints are removed, so that nothing is downloaded; norms that
    are synchronised between processes become ordinary ones, as in every single
    process (mmcv's own is not even built without a process group). What joins tracks
    after a video is over is no part of the network, and downloads its weights. Regions
    are cut out by mmcv, not by torchvision, which does the same where it is compiled.
    """
    if isinstance(node, dict):
        if node.get('type') in ('SyncBN', 'MMSyncBN'):
            node['type'] = 'BN'
        if (node.get('init_cfg') or {}) and isinstance(node['init_cfg'], dict) and \
                node['init_cfg'].get('type') == 'Pretrained':
            node['init_cfg'] = None
        if node.get('use_torchvision'):
            node['use_torchvision'] = False
        without_hub(node)
        for key in ('pretrained', 'teacher_ckpt', 'postprocess_model'):
            if node.get(key):  # a bool stays one: timm's backbones insist on it
                node[key] = False if node[key] is True else None
        for value in node.values():
            _prepare(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _prepare(value)


def shape_of(model: nn.Module, cfg: Config) -> tuple[int, ...]:
    """Image size to check at: a backbone's fixed one, else a small one.

    Of a classifier that is the one of its test pipeline, if that fixes any: pedestrians
    are told apart on upright images, by a pooling of that size.
    """
    backbone = getattr(model, 'backbone', model)
    size = cfg.model.get('backbone', {}).get('img_size') or getattr(
        backbone, 'img_size', None) or getattr(backbone, 'input_resolution', None)
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size[-2:]
        return 3, int(height), int(width)
    if is_detector(model):
        return DETECTOR_SHAPE
    if isinstance(kind_of(model), Classifier):
        with suppress(TraceError):  # no pipeline, or one that takes any image
            return input_shape_of(cfg)
    return 3, 224, 224


def rebuild_error(architecture: dict, mutator: ChannelMutator) -> float:
    """Save a random policy, build its network from the file, and compare outputs.

    Args:
        architecture (dict): Config of the dense model.
        mutator (ChannelMutator): Prepared on that model.
    """
    graph = mutator.graph
    space = SearchSpace.from_graph(graph, **mutator.space_options)
    policy = random_policy(space, seed=1)
    slim = mutator.materialise(policy)
    slim.eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'policy.json'
        PolicyFile(policy, graph.fingerprint, graph.input_shape,
                   mutator.channels(policy)).save(path)
        again = MODELS.build(dict(
            type='mmcompress.Compressed', architecture=architecture, policy=str(path)))
    # Swin v2 drops the tables that it computes anew from what it loads.
    keys = again.load_state_dict(slim.state_dict(), strict=False)
    lost = set(keys.missing_keys) & {name for name, _ in again.named_parameters()}
    if lost or keys.unexpected_keys:
        raise StageError('rebuild', f'weights that do not fit: {sorted(lost)}, '
                         f'{keys.unexpected_keys}')
    again.eval()
    return error(outputs(again, graph.trace_shape),
                 outputs(slim, graph.trace_shape))
