"""The reach of mmcompress over a model zoo, as a table by family."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median

from .check import ZooResult
from .further import FURTHER, PASSED, SKIPPED

ENOUGH = 0.5
"""Share of the MACs that units must govern for a config to count."""


def counts(result: ZooResult) -> bool:
    """Whether a config passed every check with enough of its MACs governed."""
    return result.stage == 'passed' and result.governed >= ENOUGH


def zoo_table(results: Sequence[ZooResult]) -> str:
    """Markdown table by package and family, with a line of totals for each package.

    A column of a further check says how many passed it of those it was made on, and
    to how many of these it does not apply.
    """
    families: dict[tuple[str, str], list[ZooResult]] = defaultdict(list)
    for result in results:
        families[result.package, result.family].append(result)
    options = [o for o in FURTHER if any(getattr(r, o) for r in results)]
    heads = ['package', 'family', 'configs', 'count', 'passed', 'MACs governed, median',
             'tracing, median s', *(o.replace('_', ' ') for o in options),
             'first failure']
    lines = ['| ' + ' | '.join(heads) + ' |', '|---' * len(heads) + '|']
    for package in sorted({p for p, _ in families}):
        rows = [r for r in results if r.package == package]
        for (owner, family), members in sorted(families.items()):
            if owner == package:
                lines.append(_line(package, family, members, options))
        lines.append(_line(package, '**all**', rows, options))
    return '\n'.join(lines)


def _line(
    package: str, family: str, members: Sequence[ZooResult], options: Sequence[str]
) -> str:
    traced = [r for r in members if r.units]
    failed = next((r for r in members if r.stage != 'passed'), None)
    governed = f'{median(r.governed for r in traced):.0%}' if traced else ''
    seconds = f'{median(r.trace_seconds for r in traced):.1f}' if traced else ''
    reason = f'{failed.stage}: {failed.reason[:80]}'.replace('|', '/') if failed else ''
    passed = sum(r.stage == 'passed' for r in members)
    further = ''
    for option in options:
        found = [value for r in members if (value := getattr(r, option))]
        skipped = sum(value.startswith(SKIPPED) for value in found)
        further += f'{found.count(PASSED)} of {len(found) - skipped}'
        further += f', {skipped} n/a | ' if skipped else ' | '
    return (f'| {package} | {family} | {len(members)} | '
            f'{sum(map(counts, members))} | {passed} | {governed} | {seconds} | '
            f'{further}{reason} |')
