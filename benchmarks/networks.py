"""Check real networks: permuted, zeroed and materialised outputs, and true counts.

For each network: the error of its outputs (relative to their root mean square) after
sorting all channels (in float64), between acting as a random policy and zeroing the
removed channels, and between acting as it and its materialised model; then the
analytic MACs and parameters of that policy beside mmengine's count on the model.
"""

from __future__ import annotations

from dataclasses import asdict

from harness import NETWORKS, OUT, Results, machine, parser, show

from mmcompress.testing.networks import check_network


def measure(name: str, seed: int) -> dict:
    """The report of one network as plain data."""
    network = NETWORKS[name]
    return asdict(check_network(network.build(), network.shape, seed))


def row(name: str, report: dict) -> tuple[str, ...]:
    """Cells of one network."""
    def exact(cost: str) -> str:
        analytic, true = report[cost], report[f'true_{cost}']
        return f'{analytic:,}' if analytic == true else f'{analytic:,} != {true:,}'

    errors = (f'{report[k]:.0e}' for k in ('permuted', 'zeroed', 'materialised'))
    return (name, str(report['units']), str(report['left_out']),
            f'{report["governed"]:.1%}', *errors, exact('macs'), exact('params'))


def main() -> None:
    options = parser(__doc__)
    options.add_argument('names', nargs='*', default=list(NETWORKS),
                         help=f'of: {", ".join(NETWORKS)}')
    options.add_argument('--seed', type=int, default=0, help='of the random policy')
    args = options.parse_args()
    results = Results(OUT / 'networks.json', dict(seed=args.seed))
    rows = []
    for name in args.names:
        report = results.get(name, lambda name=name: measure(name, args.seed))
        rows.append(row(name, report))
        print(*rows[-1], flush=True)
    show(machine(), (
        'network', 'units', 'left out', 'MACs governed', 'permuted', 'zeroed',
        'materialised', 'MACs: analytic = true', 'params: analytic = true'),
        rows)


if __name__ == '__main__':
    main()
