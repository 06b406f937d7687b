"""Export a checkpoint to ONNX: tools/export.py CONFIG CHECKPOINT [--policy POLICY]."""

import argparse
import os.path as osp
from dataclasses import replace
from pathlib import Path

import mmcompress  # noqa: F401  (must precede mmdet and mmpretrain)
from mmcompress.exporter.agreement import QUANTISED_TOLERANCE
from mmcompress.exporter.export import ExportOptions, export_onnx
from mmcompress.exporter.quantise.plan import plan_of
from mmcompress.exporter.twin.fitting import fit_quantisers
from mmcompress.exporter.twin.twin import twin_of
from mmcompress.openmmlab.class_names import class_names_of
from mmcompress.openmmlab.cli import base_parser, build_model, load_config, run_tool
from mmcompress.openmmlab.export_images import calibration_images
from mmcompress.openmmlab.input_shape import input_shape_of
from mmcompress.openmmlab.policy_config import compress_config
from mmcompress.openmmlab.policy_model import check_model_out, write_model
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
        '--shape', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'),
        help='size of the preprocessed image; that of the test pipeline if unset')
    parser.add_argument('--batch', type=int, default=1, help='images per call')
    parser.add_argument(
        '--dynamic-batch', action='store_true', help='take any number of images')
    parser.add_argument(
        '--boxes', action='store_true',
        help='decode boxes and suppress non-maxima inside the file (one stage)')
    parser.add_argument(
        '--calibration-images', type=int, default=32,
        help='training images that set the ranges between quantised layers')
    parser.add_argument(
        '--tolerance', type=float, default=QUANTISED_TOLERANCE,
        help='largest root mean square difference of a quantised file from its model, '
             'as a share of the spread of an output')
    parser.add_argument(
        '--fit-steps', type=int, default=0, metavar='N',
        help='fit scales, zero points and biases to the float network\'s outputs for '
             'the calibration images, N steps of 4 images; needs no labels and leaves '
             'the weights as they are')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    if args.model_out:
        check_model_out(args.model_out, args.policy)
    shape = (3, *args.shape) if args.shape else input_shape_of(cfg)
    classes = class_names_of(cfg)
    if args.policy:
        compress_config(cfg, args.policy, args.checkpoint)
    model = build_model(cfg, args.checkpoint)
    images = ()
    if plan_of(model):
        images = calibration_images(
            cfg, model, shape, args.calibration_images, args.batch)
    name = osp.splitext(osp.basename(args.checkpoint))[0] + '.onnx'
    path = args.out or osp.join(cfg.work_dir, name)
    options = ExportOptions(
        shape, args.batch, args.dynamic_batch, classes, images, args.boxes,
        layout=bool(args.model_out or args.fit_steps),
        quantised_tolerance=args.tolerance)
    files = export_onnx(model, path, options)
    layouts = [file.layout for file in files]
    if args.model_out or args.fit_steps:
        twin = twin_of(model, layouts)
    if args.fit_steps:
        fit = fit_quantisers(twin, model, shape, images, args.fit_steps)
        print(f'Fitted: squared error over variance of the outputs {fit.before:.4f} '
              f'before, {fit.after:.4f} after, on the calibration images' +
              ('.' if fit.after < fit.before else ': not better, so nothing changed.'))
        files = export_onnx(twin, path, replace(options, layout=False))
    if args.model_out:
        write_model(twin, args.policy, args.model_out, classes)
        if lost := [name for layout in layouts for name in layout.lost]:
            print(f'{args.model_out} differs from the file, which quantises '
                  f'{len(lost)} tensors that no module returns, e.g. {lost[0]}.')
    for file in files:
        what = 'root mean square difference from the fake-quantised model, relative ' \
            'to the spread of an output' if len(images) else \
            'largest difference from the model, relative to its largest output'
        print(f'{file.path}: {file.size / 1e6:.2f} MB, {what}: {file.error:.1e}')
        join_network(file.path, Path(args.policy).stem if args.policy else DENSE,
                     new=True, bytes=file.size)


if __name__ == '__main__':
    run_tool(main)
