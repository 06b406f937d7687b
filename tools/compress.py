"""From a config to tested files in one command: tools/compress.py CONFIG.

Searches, fine-tunes each network, puts it into 8 bits (--int8), exports it, tests every
file in the config's own metric and times it beside the dense one. Ends with one table.
The same command continues what was interrupted and skips what is done.
"""

import argparse

import mmcompress  # noqa: F401  (must precede mmdet and mmpretrain)
from mmcompress.exporter.runtimes import RUNTIMES
from mmcompress.openmmlab.cli import (
    base_parser,
    load_config,
    parse_target_options,
    run_tool,
)
from mmcompress.openmmlab.pipeline.run import compress
from mmcompress.openmmlab.searching import check_complete
from mmcompress.options import Natural, NotNegative, parsed
from mmcompress.report import load_outcome, results_table


def parse_args() -> argparse.Namespace:
    parser = base_parser(__doc__)
    parser.add_argument(
        '--targets', nargs='+', metavar='COST=VALUES',
        help='budgets, e.g. macs=0.7,0.5 or latency_ms=4; those of the config if unset')
    parser.add_argument(
        '--epochs', type=parsed(Natural),
        help='of fine-tuning each network, 0 for none; a tenth of the config\'s if '
             'unset')
    parser.add_argument(
        '--distill', type=parsed(NotNegative), metavar='WEIGHT', nargs='?', const=1.0,
        help='fine-tune with the dense network as a teacher, with this weight (1)')
    parser.add_argument(
        '--int8', action='store_true', default=None,
        help='put the networks into 8 bits; layers that do not bear it stay in float')
    parser.add_argument(
        '--int8-epochs', type=parsed(Natural), metavar='N',
        help='of fine-tuning each network once more, in 8 bits; 0, none, if unset')
    parser.add_argument(
        '--resume', action='store_true',
        help='accepted for symmetry: what was interrupted is always continued')
    parser.add_argument(
        '--runtime', choices=list(RUNTIMES),
        help='what the files are written for, tested and timed with')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    targets = parse_target_options(args.targets) if args.targets else None
    results = compress(
        cfg, targets, epochs=args.epochs, distill=args.distill, int8=args.int8,
        int8_epochs=args.int8_epochs, runtime=args.runtime)
    results_table(results).print()
    for note in results.notes:
        print(note)
    print(f'Files: {cfg.work_dir}/networks; report: {cfg.work_dir}/report.html')
    check_complete(load_outcome(cfg.work_dir))


if __name__ == '__main__':
    run_tool(main)
