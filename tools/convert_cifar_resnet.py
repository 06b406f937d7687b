"""Make a checkpoint of akamaster/pytorch_resnet_cifar10 fit `load_from`."""

import argparse
import os
from pathlib import Path

import torch

from mmcompress.openmmlab.models import convert_akamaster


def main() -> None:
    """Convert one file, or every ``resnet*.pth`` of a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('source', type=Path, help='a .pth file, or a folder of them')
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/pretrained'),
        help='folder of the converted files (default: %(default)s)')
    args = parser.parse_args()
    files = (sorted(args.source.glob('resnet*.pth')) if args.source.is_dir()
             else [args.source])
    if not files:
        parser.error(f'no resnet*.pth in {args.source}')
    args.out.mkdir(parents=True, exist_ok=True)
    for file in files:
        state_dict = torch.load(file, map_location='cpu', weights_only=True)
        target = args.out / file.name
        temporary = target.with_name(f'.{target.name}.{os.getpid()}')
        torch.save({'state_dict': convert_akamaster(state_dict)}, temporary)
        temporary.replace(target)
        print(f'{file} -> {target}')


if __name__ == '__main__':
    main()
