"""Train, or fine-tune a policy: tools/train.py CONFIG [--policy POLICY.json]."""

import argparse
import os.path as osp

import mmcompress  # noqa: F401  (must precede mmdet and mmpretrain)
from mmcompress.openmmlab.cli import base_parser, load_config, run_tool
from mmcompress.openmmlab.training import TrainOptions, train
from mmcompress.options import NotNegative, parsed


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
        '--distill', type=parsed(NotNegative), metavar='WEIGHT', nargs='?', const=1.0,
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
    if args.policy and not args.work_dir:
        name = osp.splitext(osp.basename(args.policy))[0]
        cfg.work_dir = osp.join(cfg.work_dir, f'finetune_{name}')
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        cfg.auto_scale_lr = dict(cfg.get('auto_scale_lr', {}), enable=True)
    train(cfg, TrainOptions(
        args.policy, args.checkpoint, args.from_scratch, args.distill, args.resume))


if __name__ == '__main__':
    run_tool(main)
