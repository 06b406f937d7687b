"""Test a checkpoint or an exported file.

tools/test.py CONFIG CHECKPOINT [--policy POLICY.json]
tools/test.py CONFIG FILE.onnx --backend onnxruntime
"""

import argparse

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
    runner.test()


if __name__ == '__main__':
    run_tool(main)
