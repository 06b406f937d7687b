"""Test a checkpoint or an exported file.

tools/test.py CONFIG CHECKPOINT [--policy POLICY.json]
tools/test.py CONFIG FILE.onnx --backend onnxruntime
"""

import argparse
import json

from mmengine.dist import is_main_process
from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

import mmcompress  # noqa: F401  (must precede mmdet and mmpretrain)
from mmcompress.deploy.backend import attach
from mmcompress.deploy.runtimes import RUNTIMES
from mmcompress.engine.cli import (
    base_parser,
    load_config,
    load_weights,
    run_tool,
)
from mmcompress.engine.policy_config import compress_config
from mmcompress.errors import CompressionError
from mmcompress.evaluation.images import reading
from mmcompress.evaluation.precision import full_precision
from mmcompress.files import write_text


def parse_args() -> argparse.Namespace:
    parser = base_parser(__doc__, checkpoint=True)
    parser.add_argument(
        '--policy', help='policy file that the checkpoint was searched or trained with')
    parser.add_argument(
        '--backend', choices=['torch', *RUNTIMES], default='torch',
        help='what runs the network; unless torch, CHECKPOINT is a file that '
             'tools/export.py wrote')
    parser.add_argument(
        '--threads', type=int, help='threads of the backend; all cores if unset')
    parser.add_argument('--out', help='JSON file to write the metrics to')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    if args.backend != 'torch':
        cfg.load_from = None  # the file holds the weights and the policy
    elif args.policy:
        compress_config(cfg, args.policy, args.checkpoint)
    if cfg.get('test_dataloader') is None:
        raise CompressionError(f'{args.config} has no test_dataloader to test on.')
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    wrapped = is_model_wrapper(runner.model)
    model = runner.model.module if wrapped else runner.model
    if args.backend == 'torch':
        load_weights(model, args.checkpoint)
    else:
        attach(model, args.checkpoint, args.backend, args.threads)
    with reading(cfg.test_dataloader.dataset):
        evaluator = runner.test_loop.evaluator
    # As the search scored it: CocoMetric would round to three decimals.
    with full_precision(evaluator):
        metrics = runner.test()
    if args.out and is_main_process():
        numbers = {k: float(v) for k, v in metrics.items()}
        write_text(args.out, json.dumps(numbers, indent=1))


if __name__ == '__main__':
    run_tool(main)
