"""What the command-line tools share."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import os.path as osp
import re
import signal
import socket
import sys
from collections.abc import Callable, Collection

import torch
from mmengine.config import Config, DictAction
from mmengine.config.utils import ConfigParsingError
from mmengine.logging import MMLogger, print_log
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from ..errors import CheckpointError, CompressionError, TargetError
from ..study.storage import concealed
from .checkpoints import TRUST_FLAG, load, loading, state_of
from .config_files import read_config
from .console import calm
from .processes import Terminated, ending_in_order
from .search_seed import with_seed
from .settings import check_settings

DATA_ROOT = 'DATA_ROOT'
"""Environment variable, and option: the folder that shipped configs read data in."""

NO_WEIGHTS = re.compile(
    r'^ema_|^data_preprocessor\.|(^|\.)loss|(^|\.)(num_batches_tracked|attn_mask|'
    r'relative_position_index|relative_coords_table)$')
"""Tensors that a network's outputs do not depend on, or that its config says: moving
averages beside the weights, counters of batch norms, tables of windows."""

SPARE = re.compile(r'aux|_head$', re.IGNORECASE)
"""Names of parts within a part that another one works without."""

CONFIG_ERRORS = (
    ConfigParsingError, SyntaxError, OSError, ImportError, KeyError, TypeError,
    ValueError, AssertionError)
"""What mmengine raises for a config that it cannot read, or options that do not fit."""

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM,
        errno.EIO)
"""Errors of disks that are full, read-only, broken, or somebody else's."""


def base_parser(description: str, checkpoint: bool = False) -> argparse.ArgumentParser:
    """The options that every tool of OpenMMLab takes."""
    # Abbreviations off: search.py starts workers with its own options less some.
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument('config', help='config file')
    if checkpoint:
        parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--work-dir', help='where to write (work_dirs/<config>)')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
        help='override settings of the config, e.g. search_cfg.targets.macs="[0.5]"')
    parser.add_argument(
        TRUST_FLAG, action='store_true',
        help='let checkpoints run code; needed for those that hold more than tensors '
             'and plain values, and safe only if you trust who made them')
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
        help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return parser


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and apply what the command line says.

    Raises:
        CompressionError: There is no such file, or it or an option is malformed.
    """
    if not osp.isfile(args.config):
        raise CompressionError(f'There is no config file {args.config!r}.')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    options = dict(args.cfg_options or {})
    if DATA_ROOT in options:  # configs read it while they are parsed
        os.environ[DATA_ROOT] = str(options.pop(DATA_ROOT))
    try:
        cfg = read_config(args.config)
    except CONFIG_ERRORS as error:
        raise CompressionError(
            f'{args.config} cannot be read: {type(error).__name__}: {error}'
        ) from error
    try:
        cfg.merge_from_dict(options)
    except CONFIG_ERRORS as error:
        raise CompressionError(f'--cfg-options does not fit {args.config}: {error}'
                               ) from error
    cfg.launcher = args.launcher
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        name = osp.splitext(osp.basename(args.config))[0]
        cfg.work_dir = osp.join('work_dirs', name)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    check_settings(cfg)
    conceal_password(cfg)
    return cfg


def conceal_password(cfg: Config) -> None:
    """Take the password of the storage out of a config, in place.

    mmengine writes configs to logs, work dirs and checkpoints.
    """
    search = cfg.get('search_cfg') or {}
    if 'storage' in search:
        search['storage'] = concealed(search['storage'])


def read_checkpoint(path: str) -> dict:
    """Read a checkpoint.

    Raises:
        CheckpointError: It would run code, see :mod:`mmcompress.openmmlab.checkpoints`,
            or holds no tensors by name.
        CompressionError: The file is missing or unreadable.
    """
    try:
        checkpoint = load(path)
    except CheckpointError:
        raise
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        reason = str(error).rstrip('.') or 'it is empty or ends too early'
        raise CompressionError(
            f'The checkpoint {path!r} cannot be loaded: {reason}. Check load_from.'
        ) from error
    state_of(checkpoint, path)
    return checkpoint


def load_weights(model: torch.nn.Module, path: str) -> None:
    """Load a checkpoint: every tensor of the model, in its shape, and no more.

    Parts that the model does without, such as a second head, may be in it, and what is
    no weight (:data:`NO_WEIGHTS`).

    mmengine only warns about tensors that do not fit, and a search on half-random
    weights looks like any other.

    Raises:
        CheckpointError: It would run code, see :mod:`mmcompress.openmmlab.checkpoints`.
        CompressionError: The file is missing, unreadable, or does not fit.
    """
    checkpoint = read_checkpoint(path)
    found = {k.removeprefix('module.'): v
             for k, v in state_of(checkpoint, path).items()}
    try:
        keys = model.load_state_dict(found, strict=False)
    except RuntimeError as error:
        lines = str(error).splitlines()
        problem = f'{len(lines) - 1} tensors have another shape, e.g.{lines[1]}'
    else:
        missing, more = ([k for k in found if not NO_WEIGHTS.search(k)]
                         for found in (keys.missing_keys, keys.unexpected_keys))
        modules = dict(model.named_modules())
        parts = {key: _spare_part(key, modules) for key in more}
        foreign = [key for key, part in parts.items() if not part]
        problem = ' and '.join(
            f'{len(found)} {what}, e.g. {", ".join(found[:3])}' for found, what in (
                (missing, 'tensors are missing'),
                (foreign, 'of its tensors have no place in it')) if found)
        if parts and not problem:
            print_log(f'{path} also holds {", ".join(sorted(set(parts.values())))}, '
                      'which this model lacks.', 'current', logging.WARNING)
    if problem:
        raise CompressionError(
            f'The checkpoint {path!r} does not fit {type(model).__name__}: {problem}. '
            'Use the checkpoint that belongs to this config, or the config that it was '
            'trained with.')


def _spare_part(key: str, modules: Collection[str]) -> str:
    """The part of a tensor that a model does without; empty if it is another network's.

    What the model has no part for at its top level, e.g. a head for training only, is
    left out. More of a part that it has is another network's, unless its name says that
    it is a branch with outputs of its own.
    """
    names = key.split('.')
    for end in range(1, len(names)):
        part = '.'.join(names[:end])
        if part not in modules:
            own = not names[0].isdigit() if end == 1 else SPARE.search(names[end - 1])
            return part if own else ''
    return ''


def parse_target_options(options: list[str]) -> dict[str, list[float | str]]:
    """Read ``macs=0.7,0.5 latency_ms=70%`` into the ``targets`` of a config.

    Raises:
        TargetError: An option is not of the form COST=VALUE.
    """
    targets: dict[str, list[float | str]] = {}
    for option in options:
        cost, _, values = option.partition('=')
        try:
            targets.setdefault(cost, []).extend(
                value if value.endswith('%') else float(value)
                for value in values.split(','))
        except ValueError:
            raise TargetError(
                f'The target {option} is not of the form COST=VALUE, e.g. macs=0.45.'
            ) from None
    return targets


def build_model(cfg: Config, checkpoint: str | None = None) -> torch.nn.Module:
    """The model of a config without a runner, in evaluation mode, on the CPU.

    Args:
        cfg (Config): A configuration.
        checkpoint (str | None): Weights to load. Defaults to random ones.
    """
    # A runner hands the preprocessor of the top level to the model.
    settings = dict(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        settings.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(settings)
    if checkpoint:
        load_weights(model, checkpoint)
    return model.eval()


def search_runner(cfg: Config) -> Runner:
    """A runner with the model, the logger and the search hooks, and no loaders.

    Hooks and loaders of the config belong to training and stay out. A config without
    a seed gets that of its study; see :func:`with_seed`.
    """
    cfg, origin = with_seed(cfg)
    keys = ('data_preprocessor', 'work_dir', 'load_from', 'env_cfg', 'log_level',
            'log_processor', 'visualizer', 'default_scope', 'randomness',
            'experiment_name')
    kwargs = {key: cfg[key] for key in keys if cfg.get(key) is not None}
    hooks = [dict(type='mmcompress.SearchLoggerHook'),
             dict(type='mmcompress.SearchProgressHook'),
             *cfg.search_cfg.get('custom_hooks', [])]
    kwargs.setdefault('env_cfg', dict(dist_cfg=dict(backend='nccl')))
    runner = SearchRunner(model=cfg.model, custom_hooks=hooks, cfg=cfg, **kwargs)
    runner.logger.info(f'Seed {runner.seed}, of the {origin}.')
    return runner


class SearchRunner(Runner):
    """A runner whose logger and log file are its own.

    Workers that start in the same second would write over each other's files, and
    runs of one config that start so in one process would share a logger.
    """

    def build_logger(
        self, log_level: int | str = 'INFO', log_file: str | None = None, **kwargs
    ) -> MMLogger:
        """See :meth:`Runner.build_logger`."""
        if log_file is None:
            log_file = osp.join(self.log_dir, f'{self.timestamp}.log')
            try:
                os.close(os.open(log_file, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                name = f'{self.timestamp}_{socket.gethostname()}_{os.getpid()}.log'
                log_file = osp.join(self.log_dir, name)
        kwargs.setdefault('name', log_file)
        return super().build_logger(log_level, log_file, **kwargs)


def run_tool(main: Callable[[], None]) -> None:
    """Run a tool; a mistake of the user ends in one sentence, not a traceback.

    No checkpoint that the tool loads, itself or through mmengine, can run code,
    unless the command says so.
    """
    try:
        # The flag is looked up here, for all that the tool does to be within.
        with ending_in_order(), calm(), loading(trust=TRUST_FLAG in sys.argv[1:]):
            main()
    except CompressionError as error:
        sys.exit(f'{type(error).__name__}: {error}')
    except FileNotFoundError as error:
        sys.exit(f'A file is missing: {error}. Check the paths in the config.')
    except OSError as error:
        if error.errno not in DISK:
            raise
        sys.exit(f'{error.filename or "A file"} cannot be used: {error.strerror}. Free '
                 'space or choose another --work-dir, then run the same command again; '
                 'nothing that was finished is lost.')
    except KeyError as error:
        # How mmengine says that a type of the config is not registered.
        if 'is not in the' not in str(error):
            raise
        sys.exit(f'The config names an unknown type: {error.args[0]}')
    except KeyboardInterrupt as end:
        said, code = ('Terminated', signal.SIGTERM) if isinstance(end, Terminated) \
            else ('Interrupted', signal.SIGINT)
        print(f'\n{said}. Run the same command again to continue.', file=sys.stderr)
        sys.exit(128 + code)
