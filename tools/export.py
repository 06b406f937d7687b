"""Export a checkpoint to ONNX: tools/export.py CONFIG CHECKPOINT [--policy POLICY].

With --int8 a network in float is put into 8 bits first. Layers that do not bear it are
found by measurement and stay in float.
"""

import argparse
import os.path as osp
from pathlib import Path

import mmcompress  # noqa: F401  (must precede mmdet and mmpretrain)
from mmcompress.errors import CompressionError
from mmcompress.exporter.agreement import QUANTISED_TOLERANCE
from mmcompress.exporter.eight_bits import EightBits
from mmcompress.exporter.quantise.float_layers import LIMIT
from mmcompress.exporter.quantise.runtime_rules import ONNX_RUNTIME, RULES
from mmcompress.openmmlab.cli import base_parser, load_config, run_tool
from mmcompress.openmmlab.exporting import ExportRequest, export_checkpoint
from mmcompress.options import Count, Natural, NotNegative, Positive, parsed
from mmcompress.report import join_network
from mmcompress.report.tradeoff import DENSE


def parse_args() -> argparse.Namespace:
    parser = base_parser(__doc__, checkpoint=True)
    parser.add_argument(
        '--policy', help='policy file that the checkpoint was searched or trained with')
    parser.add_argument('--out', help='file to write (<work dir>/<checkpoint>.onnx)')
    parser.add_argument(
        '--model-out', metavar='POLICY.json',
        help='also write the model that computes what the quantised file does: its '
             'policy file, with the checkpoint (.pth) beside it')
    parser.add_argument(
        '--shape', type=parsed(Count), nargs=2, metavar=('HEIGHT', 'WIDTH'),
        help='size of the preprocessed image; that of the test pipeline if unset')
    parser.add_argument(
        '--batch', type=parsed(Count), default=1,
        help='images per call')
    parser.add_argument(
        '--dynamic-batch', action='store_true', help='take any number of images')
    parser.add_argument(
        '--boxes', action='store_true',
        help='decode boxes and suppress non-maxima inside the file (one stage)')
    parser.add_argument(
        '--runtime', choices=list(RULES), default=ONNX_RUNTIME.name,
        help='what quantised layers are written for; the other two compute what the '
             'fake-quantised model computes')
    parser.add_argument(
        '--float16', action='store_true',
        help='weights and arithmetic of a network in float in 16 bits, for GPUs')
    parser.add_argument(
        '--calibration-images', type=parsed(Count), default=32,
        help='training images that set the ranges between quantised layers')
    parser.add_argument(
        '--tolerance', type=parsed(Positive), default=QUANTISED_TOLERANCE,
        help='largest root mean square difference of a quantised file from its model, '
             'as a share of the spread of an output')
    parser.add_argument(
        '--fit-steps', type=parsed(Natural), default=0, metavar='N',
        help='fit scales, zero points and biases to the float network\'s outputs for '
             'the calibration images, N steps of 4 images; needs no labels and leaves '
             'the weights as they are')
    parser.add_argument(
        '--int8', action='store_true',
        help='put a network in float into 8 bits; its layers that cost most stay in '
             'float until the error is within --int8-limit')
    parser.add_argument(
        '--int8-limit', type=parsed(NotNegative), metavar='SHARE',
        help='largest mean square difference of the outputs from the float network, as '
             f'a share of their variance, on calibration images ({LIMIT})')
    parser.add_argument(
        '--skip', nargs='*', metavar='LAYER',
        help='layers that stay in float instead of those that --int8 would find: '
             'names, patterns, first, predictors; none at all if empty')
    parser.add_argument(
        '--weight-bits', type=int, choices=[7, 8],
        help='of the INT8 weights of --int8: 7, as a CPU without VNNI cuts sums of '
             'products of 8 bits off, but 8 for tensorrt if unset')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if not args.int8 and (args.int8_limit is not None or args.skip is not None):
        raise CompressionError('--int8-limit and --skip are for --int8; add it.')
    cfg = load_config(args)
    name = osp.splitext(osp.basename(args.checkpoint))[0] + '.onnx'
    result = export_checkpoint(cfg, args.checkpoint, ExportRequest(
        args.out or osp.join(cfg.work_dir, name), args.policy,
        (3, *args.shape) if args.shape else None, args.batch, args.dynamic_batch,
        args.boxes, args.runtime, args.float16, args.calibration_images,
        args.tolerance, args.fit_steps, args.model_out,
        eight_bits(args) if args.int8 else None))
    for file in result.files:
        what = 'root mean square difference from the fake-quantised model, relative ' \
            'to the spread of an output' if result.quantised else \
            'largest difference from the model, relative to its largest output'
        print(f'{file.path}: {file.size / 1e6:.2f} MB, {what}: {file.error:.1e}')
        join_network(file.path, Path(args.policy).stem if args.policy else DENSE,
                     new=True, bytes=file.size)


def eight_bits(args: argparse.Namespace) -> EightBits:
    """What the command line says about --int8."""
    return EightBits(
        LIMIT if args.int8_limit is None else args.int8_limit,
        None if args.skip is None else tuple(args.skip),
        weight_bits=args.weight_bits or RULES[args.runtime].weight_bits)


if __name__ == '__main__':
    run_tool(main)
