"""Write the handwritten-digits detection set that the demo's configs read."""

import argparse
from dataclasses import replace

from mmcompress.openmmlab.datasets import DigitsOptions, make_digits
from mmcompress.options import Natural, parsed


def main() -> None:
    """Write the set, unless it is there already."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', nargs='?', default='work_dirs/digits')
    parser.add_argument('--seed', type=parsed(Natural), default=0)
    args = parser.parse_args()
    print(make_digits(args.folder, replace(DigitsOptions(), seed=args.seed)))


if __name__ == '__main__':
    main()
