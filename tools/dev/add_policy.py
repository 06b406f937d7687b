"""Publish a policy: copy it to configs/<method>/policies/ and say what is known of it.

.venv/bin/python tools/dev/add_policy.py work_dirs/my_search macs_0.5 \\
    --config reconstruction/two_stage_resnet56_cifar10.py --network ResNet-56 \\
    --dataset CIFAR-10 --measured 'the 10,000 test images' \\
    --checkpoint 'resnet56 of github.com/...' --command 'mmcompress search ... --test'

The scores of a search that was run with --test, and the digest of its dense weights,
are found in its work dir; give them for a policy file alone. The model of the config is
built, so that a policy of another model or with other costs is refused. The metafile of
the method is written again.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metafile import METRICS, write_models
from recomputing import graph_of, shares_of

from mmcompress.errors import CompressionError, DataError
from mmcompress.policy.files import PolicyFile
from mmcompress.policy.published import FOLDER, ZOO, PublishedPolicy, read_published
from mmcompress.report import Outcome, load_outcome
from mmcompress.report.tradeoff import DENSE

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


@dataclass(frozen=True)
class Measured:
    """What was measured of a network.

    Args:
        metric (str): Of the test set.
        score, dense_score (float): What the network and the dense one achieve.
        weights (str): Digest of the dense weights; '' if unknown.
    """

    metric: str
    score: float
    dense_score: float
    weights: str = ''


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=Path, help='work dir of a search, or a policy')
    parser.add_argument('target', nargs='?', help='of a work dir, e.g. macs_0.5')
    for name, text in (
            ('config', 'config of the search, below configs/'),
            ('network', 'the dense network, e.g. ResNet-56'),
            ('dataset', 'what it was trained on, e.g. CIFAR-10'),
            ('measured', 'on which images the scores are, and of which network'),
            ('checkpoint', 'address of the dense weights, or how to get them'),
            ('command', 'what found the policy')):
        parser.add_argument(f'--{name}', required=True, help=text)
    parser.add_argument('--metric', choices=METRICS, help='of the scores')
    parser.add_argument('--score', type=float, help='of the network')
    parser.add_argument('--dense-score', type=float, help='of the dense network')
    parser.add_argument('--weights', help='digest of the dense weights')
    parser.add_argument('--configs', type=Path, default=CONFIGS, help='where to write')
    return parser.parse_args(argv)


def source_of(args: argparse.Namespace) -> tuple[Path, Outcome | None]:
    """The policy file, and the outcome of the search that wrote it, if that is there.

    Raises:
        DataError: A work dir was named without a target.
    """
    path = args.source
    if path.is_dir():
        if not args.target:
            raise DataError(f'{path} is a work dir; name the target, e.g. macs_0.5.')
        path = path / 'policies' / f'{args.target}.json'
    try:
        return path, load_outcome(path.parent.parent)
    except DataError:
        return path, None


def measured(args: argparse.Namespace, name: str, outcome: Outcome | None) -> Measured:
    """The scores that are given, else those of the search's test.

    Raises:
        DataError: Neither is there.
    """
    weights = args.weights or (outcome.facts.get('weights', '') if outcome else '')
    given = (args.metric, args.score, args.dense_score)
    if None not in given:
        return Measured(*given, weights)
    rows = {row.target: row.test for row in outcome.tradeoff.rows} if outcome else {}
    tested = outcome.tradeoff.test_name if outcome else ''
    if given != (None,) * 3 or None in (rows.get(name), rows.get(DENSE)) \
            or tested not in METRICS:
        raise DataError(
            f'The scores of {name} on test images are not known: give --metric, '
            '--score and --dense-score, or search with --test.')
    return Measured(tested, rows[name], rows[DENSE], weights)


def slug(text: str) -> str:
    """A name as part of a file's: 'ResNet-56' is 'resnet56'."""
    words = re.sub(r'[^a-z0-9.]+', '-', text.lower()).strip('-')
    return re.sub(r'-(?=\d)', '', words)


def publish(args: argparse.Namespace) -> PublishedPolicy:
    """Write the policy file and the metafile.

    Raises:
        CompressionError: The policy, its scores or the config do not fit each other.
    """
    path, outcome = source_of(args)
    file, found = PolicyFile.load(path), measured(args, path.stem, outcome)
    config = args.configs / args.config
    if not config.is_file():
        raise DataError(f'There is no config {config}; --config is below configs/.')
    said: dict[str, Any] = {
        name: getattr(args, name) for name in (
            'config', 'network', 'dataset', 'measured', 'checkpoint', 'command')}
    said.update(vars(found), task=METRICS[found.metric][0],
                shares=shares_of(file, graph_of(config, file)))
    method = args.configs / Path(args.config).parts[0]
    name = '_'.join((slug(args.network), slug(args.dataset), path.stem))
    written = method / FOLDER / f'{name}.json'
    replace(file, facts={**file.facts, ZOO: said}).save(written)
    write_models(args.configs, method.name)
    return read_published(written)


def main(argv: list[str] | None = None) -> int:
    """Run the script and return its exit status."""
    try:
        print(publish(parse_args(argv)))
    except CompressionError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
