"""Test a checkpoint: tools/test.py CONFIG CHECKPOINT [--policy POLICY.json]."""

import argparse

from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

import mmcompress  # noqa: F401  (must precede mmdet and mmpretrain)
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
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    if args.policy:
        compress_config(cfg, args.policy, args.checkpoint)
    if cfg.get('test_dataloader') is None:
        raise CompressionError(f'{args.config} has no test_dataloader to test on.')
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    wrapped = is_model_wrapper(runner.model)
    load_weights(runner.model.module if wrapped else runner.model, args.checkpoint)
    runner.test()


if __name__ == '__main__':
    run_tool(main)
