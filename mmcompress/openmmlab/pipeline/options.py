"""What a compression is asked to do: ``compress_cfg`` of a config, and the command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from mmengine.config import Config

from ...errors import CompressionError
from ...exporter.eight_bits import WEIGHT_BITS
from ...exporter.quantise.float_layers import LIMIT
from ...exporter.runtimes import RUNTIMES, OnnxRuntime
from ...exporter.timing import ROUNDS
from ...options import Count, Natural, NotNegative, Positive, Within
from ...plain import plain
from ...registry import check_call
from ..test_set import check_test_set

METRICS = dict(CocoMetric='coco/bbox_mAP', Accuracy='accuracy/top1')
"""What to search by where a config does not say, by the type of its metric."""

EVALUATIONS, PRICED = 24, 16
"""Policies that such a search scores, and the images it prices with."""


@dataclass(frozen=True)
class CompressOptions:
    """Keys of ``compress_cfg``.

    Args:
        epochs (int | None): Fine-tuning of each network; 0 for none. Defaults to a
            tenth of the config's schedule. Iterations where the config counts these.
        lr (float | None): Its highest learning rate. Defaults to a fifth of the
            config's.
        distill (float | None): Learn from the dense network with this weight.
        finetune (Mapping): Settings of the config that differ while fine-tuning, e.g.
            ``dict(train_dataloader=dict(batch_size=16))``.
        int8 (bool): Put the networks into 8 bits. Defaults to False.
        int8_epochs (int): Fine-tuning of each network once more, in 8 bits with all
            points of its file in place. Defaults to 0: none.
        int8_lr (float | None): Its highest learning rate. Defaults to a tenth of that
            of the fine-tuning before.
        int8_limit (float): See :class:`mmcompress.exporter.eight_bits.EightBits`.
        skip (Sequence[str] | None): Layers that stay in float, instead of those that
            the limit asks for.
        weight_bits (int): Of INT8 weights; 8 for CPUs that have VNNI. Defaults to 7.
        calibration_images (int): Training images that set ranges. Defaults to 64.
        runtime (str): What the files are written for, tested and timed with. Defaults
            to 'onnxruntime'.
        threads (int): Of the runtime, for timing. Defaults to 1.
        repeats (int): Timed calls of each file. Defaults to 100.
    """

    epochs: Natural | None = None
    lr: Positive | None = None
    distill: NotNegative | None = None
    finetune: Mapping[str, Any] = field(default_factory=dict)
    int8: bool = False
    int8_epochs: Natural = 0
    int8_lr: Positive | None = None
    int8_limit: NotNegative = LIMIT
    skip: Sequence[str] | None = None
    weight_bits: Literal[7, 8] = WEIGHT_BITS
    calibration_images: Count = 64
    runtime: Literal[tuple(RUNTIMES)] = OnnxRuntime.name
    threads: Count = 1
    repeats: Annotated[int, Within(ROUNDS)] = 100

    @classmethod
    def of(cls, cfg: Config, **given: Any) -> CompressOptions:
        """Those of a config, with others on top; None leaves the config's.

        Raises:
            CompressionError: A key or its value does not fit.
        """
        given = {name: x for name, x in given.items() if x is not None}
        for options in (cfg.get('compress_cfg') or {}, given):
            check_call('compress_cfg', options, cls)
        return cls(**{**(cfg.get('compress_cfg') or {}), **given})


def complete(
    cfg: Config, targets: Mapping[str, Any] | None,
    options: CompressOptions | None = None,
) -> None:
    """Say what a config leaves open about its search, in place.

    Args:
        cfg (Config): Any config of OpenMMLab with a checkpoint.
        targets (Mapping | None): Budgets instead of those of the config. They are
            searched for by a study of their own.
        options (CompressOptions | None): Budgets in milliseconds are for the runtime
            that times the files. Defaults to those of the config.

    Raises:
        CompressionError: There are no budgets, or nothing to score by.
    """
    if cfg.get('compression') is None:
        cfg.compression = dict(
            channel=dict(type='ChannelMutator', importance='obs'))
    search = dict(cfg.get('search_cfg') or {})
    search.setdefault('type', 'PolicySearchLoop')
    if 'searcher' not in search:
        search['searcher'] = dict(type='TwoStage', evaluations=EVALUATIONS)
        search.setdefault('prices', dict(type='ReconstructionPrices', images=PRICED))
    if 'evaluator' not in search:
        search['evaluator'] = dict(metric=_metric(cfg))
    if targets and plain(targets) != plain(search.get('targets')):
        search['targets'] = dict(targets)
        names = ' '.join(f'{k}={v}' for k, v in targets.items())
        search['study'] = f'{search.get("study", "search")} {names}'
    if not search.get('targets'):
        raise CompressionError(
            'There is no budget; give --targets macs=0.7,0.5, or write '
            'search_cfg.targets into the config.')
    if 'latency_ms' in search['targets']:
        options = options or CompressOptions.of(cfg)
        search['latency'] = {'backend': options.runtime, 'threads': options.threads,
                             **(search.get('latency') or {})}
    cfg.search_cfg = search


def _metric(cfg: Config) -> str:
    """What a config's networks are usually scored by."""
    evaluator = cfg.get('val_evaluator') or {}
    kinds = [str(x.get('type')).rpartition('.')[2] for x in (
        evaluator if isinstance(evaluator, (list, tuple)) else [evaluator])]
    found = next((METRICS[kind] for kind in kinds if kind in METRICS), None)
    if found is None:
        raise CompressionError(
            f'Nothing says what to search by, and the metric {", ".join(kinds)} is not '
            'among those that are known; write '
            "search_cfg=dict(evaluator=dict(metric='...')) into the config.")
    return found


def check(cfg: Config, options: CompressOptions) -> None:
    """Find mistakes before hours of work.

    Raises:
        CompressionError: Something is missing, or does not go together.
    """
    check_test_set(cfg)
    if not cfg.get('load_from'):
        raise CompressionError(
            'The config has no load_from: give the checkpoint of the dense network.')
    if cfg.get('launcher', 'none') != 'none':
        raise CompressionError(
            'tools/compress.py runs in one process; leave --launcher out, or take '
            'tools/search.py and tools/train.py, which share their work.')
    if options.int8 and 'quant' in (cfg.compression or {}):
        raise CompressionError(
            'The search of this config chooses bits (compression.quant), so --int8 has '
            'nothing to do; leave one of them out.')
    if options.int8_epochs and not options.int8:
        raise CompressionError(
            'compress_cfg.int8_epochs trains networks in 8 bits; add --int8, or leave '
            'it out.')
    if options.runtime not in RUNTIMES or not find_spec(options.runtime):
        raise CompressionError(
            f'There is no runtime {options.runtime!r}: choose from '
            f'{", ".join(RUNTIMES)}, and install it by pip.')
