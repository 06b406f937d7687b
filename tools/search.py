"""Search a family of compressed networks: tools/search.py CONFIG."""

import argparse
import logging
import os
import subprocess
import sys

from mmengine.logging import print_log

import mmcompress  # noqa: F401  (must precede mmdet and mmpretrain)
from mmcompress.errors import CompressionError
from mmcompress.openmmlab.cli import (
    base_parser,
    load_config,
    parse_target_options,
    run_tool,
)
from mmcompress.openmmlab.processes import PARENT
from mmcompress.openmmlab.searching import check_complete, search_loop
from mmcompress.options import Count, parsed


def parse_args() -> argparse.Namespace:
    parser = base_parser(__doc__)
    parser.add_argument(
        '--resume', action='store_true',
        help='accepted for symmetry: a search always continues its study')
    parser.add_argument(
        '--workers', type=parsed(Count), default=1,
        help='processes that share the search on this machine; with GPUs, worker i '
             'uses GPU i')
    parser.add_argument(
        '--target', nargs='+', metavar='COST=VALUE',
        help='do not search: write policies for these further targets, e.g. macs=0.45, '
             'from what the search of this config has left')
    parser.add_argument(
        '--test', action='store_true',
        help='then test what was found, and the dense network, on the test set of the '
             'config, as tools/test.py does')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    if cfg.get('search_cfg') is None:
        raise CompressionError(
            f'{args.config} has no search_cfg; see configs/README.md for how to write '
            'one on top of any config.')
    if args.test and args.target:
        raise CompressionError(
            '--test is for the targets of the config; test the policies of --target '
            'with tools/test.py.')
    targets = parse_target_options(args.target) if args.target else None
    workers = 1 if targets else args.workers
    helpers = [start_worker(i) for i in range(1, workers)]
    try:
        loop = search_loop(cfg)
        if targets:
            loop.answer(targets)
            return
        if args.test:
            loop.check_testable()
        outcome = loop.run()
        codes = [helper.wait() for helper in helpers]
        if any(codes):
            print_log(f'Workers ended with exit codes {codes}; see their logs in '
                      f'{cfg.work_dir}. The others did their share.',
                      'current', logging.WARNING)
        if args.test:
            loop.test()
        check_complete(outcome)
    finally:
        for helper in helpers:
            helper.terminate()


def start_worker(index: int) -> subprocess.Popen:
    """Start this command again as worker ``index``."""
    arguments, skip = [], False
    for argument in sys.argv[1:]:
        if skip or argument == '--test' or argument.startswith('--workers'):
            skip = argument == '--workers'
            continue
        arguments.append(argument)
    environment = {**os.environ, PARENT: str(os.getpid())}
    if environment.get('CUDA_VISIBLE_DEVICES') != '':
        devices = environment.get('CUDA_VISIBLE_DEVICES', '').split(',')
        device = devices[index] if index < len(devices) and devices[0] else str(index)
        environment['CUDA_VISIBLE_DEVICES'] = device
    return subprocess.Popen(
        [sys.executable, __file__, *arguments], env=environment,
        stdout=subprocess.DEVNULL)


if __name__ == '__main__':
    run_tool(main)
