"""List the published policies, with their cost and score: mmcompress zoo [PATTERN]."""

from __future__ import annotations

import argparse
import json
import sys

import mmcompress as mmc
from mmcompress.errors import CompressionError
from mmcompress.report.published import published_table


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'pattern', nargs='?', metavar='PATTERN',
        help='part of a name, network, data set, metric or config, e.g. "resnet*0.5"')
    parser.add_argument(
        '--json', action='store_true', help='print all that is known, as JSON')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int | str:
    """Run the tool and return its exit status, or what to say in place of one."""
    args = parse_args(argv)
    try:
        found = mmc.zoo(args.pattern)
    except CompressionError as error:
        return f'error: {error}'
    if not found and args.pattern is None:
        return 'No policies have been published in configs/*/policies/.'
    if not found:
        return (f'No published policy has {args.pattern!r} in its name, network, data '
                'set, metric or config; mmcompress zoo lists them all.')
    if args.json:
        print(json.dumps([policy.to_dict() for policy in found], indent=1))
    else:
        published_table(found.policies).print()
    return 0


if __name__ == '__main__':
    sys.exit(main())
