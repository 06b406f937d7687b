"""Test a checkpoint or an exported file.

tools/test.py CONFIG CHECKPOINT [--policy POLICY.json]
tools/test.py CONFIG FILE.onnx --backend onnxruntime
"""

import argparse
import json
from pathlib import Path

from mmengine.dist import is_main_process

import mmcompress  # noqa: F401  (must precede mmdet and mmpretrain)
from mmcompress.exporter.runtimes import RUNTIMES
from mmcompress.files import write_text
from mmcompress.openmmlab.cli import base_parser, load_config, run_tool
from mmcompress.openmmlab.test_set import score_on_test_set
from mmcompress.options import Count, parsed
from mmcompress.report import join_network


def parse_args() -> argparse.Namespace:
    parser = base_parser(__doc__, checkpoint=True)
    parser.add_argument(
        '--policy', help='policy file that the checkpoint was searched or trained with')
    parser.add_argument(
        '--backend', choices=['torch', *RUNTIMES], default='torch',
        help='what runs the network; unless torch, CHECKPOINT is a file that '
             'tools/export.py wrote')
    parser.add_argument(
        '--threads', type=parsed(Count),
        help='threads of the backend; all cores if unset')
    parser.add_argument('--out', help='JSON file to write the metrics to')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    metrics = score_on_test_set(
        cfg, args.checkpoint, args.policy, args.backend, args.threads)
    if not is_main_process():
        return
    if args.out:
        write_text(args.out, json.dumps(metrics, indent=1))
    target = Path(args.policy).stem if args.policy else None
    if folder := join_network(args.checkpoint, target, test=metrics):
        print(f'{args.checkpoint} is in the table and the report of {folder}.')


if __name__ == '__main__':
    run_tool(main)
