"""Train, or fine-tune a policy: tools/train.py CONFIG [--policy POLICY.json]."""

import argparse
import os.path as osp

from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import Runner, find_latest_checkpoint

import mmcompress  # noqa: F401  (must precede mmdet and mmpretrain)
from mmcompress.errors import CompressionError
from mmcompress.openmmlab.cli import base_parser, load_config, load_weights, run_tool
from mmcompress.openmmlab.images import reading
from mmcompress.openmmlab.policy_config import compress_config, distil_config


def parse_args() -> argparse.Namespace:
    parser = base_parser(__doc__)
    parser.add_argument(
        '--policy', help='policy file; the model of the config becomes its network')
    parser.add_argument(
        '--checkpoint', help='weights to start from, dense or slim; load_from if unset')
    parser.add_argument(
        '--from-scratch', action='store_true',
        help='start from random weights, not from a checkpoint')
    parser.add_argument(
        '--distill', type=float, metavar='WEIGHT', nargs='?', const=1.0,
        help='learn from the dense model (of load_from) with this weight, 1 if unset')
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the rate to the batch size')
    parser.add_argument(
        '--resume', nargs='?', const='auto', metavar='CHECKPOINT',
        help='continue from a checkpoint, the newest in the work dir if unset')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    if cfg.get('train_dataloader') is None:
        raise CompressionError(f'{args.config} has no train_dataloader to train on.')
    dense_model, dense_checkpoint = cfg.model, cfg.get('load_from')
    if args.policy:
        compress_config(cfg, args.policy, args.checkpoint)
        if not args.work_dir:
            name = osp.splitext(osp.basename(args.policy))[0]
            cfg.work_dir = osp.join(cfg.work_dir, f'finetune_{name}')
    elif args.checkpoint:
        cfg.load_from = args.checkpoint
    if args.from_scratch:
        if args.checkpoint:
            raise CompressionError(
                '--from-scratch and --checkpoint exclude each other.')
        cfg.load_from = None
    if args.distill is not None:
        distil_config(cfg, dense_model, dense_checkpoint, args.distill)
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        cfg.auto_scale_lr = dict(cfg.get('auto_scale_lr', {}), enable=True)
    if args.resume == 'auto':
        # mmengine would forget load_from where there is nothing to resume yet.
        args.resume = find_latest_checkpoint(cfg.work_dir)
    if args.resume:
        cfg.resume, cfg.load_from = True, args.resume
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    if args.policy and cfg.get('load_from') and not args.resume:
        # mmengine only warns of tensors that do not fit.
        wrapped = is_model_wrapper(runner.model)
        load_weights(runner.model.module if wrapped else runner.model, cfg.load_from)
    with reading(cfg.train_dataloader.dataset):
        runner.train_loop  # noqa: B018  (builds it)
    runner.train()


if __name__ == '__main__':
    run_tool(main)
