"""The whole job on a small example: train, search, fine-tune, test, report.

Every step is a command that a user would type, printed before it runs, so that the
output is a recipe. A step whose result is there and newer than what it is made from is
not repeated; one that was interrupted continues where it was.
"""

from __future__ import annotations

import argparse
import json
import queue
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

from mmcompress.report import load_outcome
from mmcompress.report.tables import TextTable

ROOT = Path(__file__).resolve().parents[1]
DENSE, SEARCH = 'configs/demo/digits_detector.py', 'configs/demo/digits_search.py'
WORK = Path('work_dirs/digits_search')
CHECKPOINT = Path('work_dirs/digits_detector/epoch_12.pth')
TARGET = 'macs_0.5'
TUNED = WORK / f'finetune_{TARGET}/epoch_4.pth'
QUIET = 3.0
"""Seconds without output after which the time is shown."""
SHOWN = re.compile(
    r'(Epoch\((?:train|val|test)\).*|Search \[.*|Dense model: .*|\d+ channel units.*|'
    r'resumed epoch.*|\w*Error: .*)')


def main() -> None:
    """Run what is missing, then print the table."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    start = time.perf_counter()
    say('1/5 a detection set from scikit-learn\'s handwritten digits')
    run(Path('work_dirs/digits/options.json'), 'tools/make_digits.py')
    say('2/5 train a small YOLOX on it')
    run(CHECKPOINT, 'tools/train.py', DENSE, '--resume')
    say('3/5 one search for four budgets')
    run(WORK / 'report.html', 'tools/search.py', SEARCH, after=[CHECKPOINT])
    say(f'4/5 fine-tune the policy {TARGET}')
    policy = WORK / f'policies/{TARGET}.json'
    run(TUNED, 'tools/train.py', SEARCH, '--policy', policy, '--resume',
        after=[policy])
    say('5/5 test on the val split, which no step before has seen')
    outcome = load_outcome(WORK)
    maps = {'dense': test('dense', CHECKPOINT, DENSE)}
    for name in outcome.policies:
        policy = WORK / f'policies/{name}.json'
        maps[name] = test(
            name, policy.with_suffix('.pth'), SEARCH, '--policy', policy)
    tuned = test(f'{TARGET}_finetuned', TUNED, SEARCH, '--policy',
                 WORK / f'policies/{TARGET}.json')
    report(outcome.tradeoff.rows, maps, tuned)
    say(f'done in {time.perf_counter() - start:.0f} s; the report of the search: '
        f'{(ROOT / WORK / "report.html")}')


def say(text: str) -> None:
    """Print a heading."""
    print(f'\n[demo] {text}', flush=True)


def run(result: Path, *command: object, after: list[Path] | None = None) -> None:
    """Run a tool unless its result exists and is newer than what it is made from."""
    words = ['python', *map(str, command)]
    print('  $', ' '.join(words), flush=True)
    made = (ROOT / result).stat().st_mtime if (ROOT / result).exists() else None
    if made and all((ROOT / p).stat().st_mtime <= made for p in after or ()):
        print(f'    done before: {result}', flush=True)
        return
    child = subprocess.Popen(
        [sys.executable, '-W', 'ignore', *words[1:]], cwd=ROOT, text=True,
        errors='replace', stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        output = show(child)
        failed = child.wait()
    except KeyboardInterrupt:
        child.terminate()  # a terminal tells it too, `kill` does not
        child.wait()
        raise
    if failed:
        sys.exit('\n'.join([*output[-30:], f'[demo] failed: {" ".join(words)}']))


def show(child: subprocess.Popen) -> list[str]:
    """Print the lines that tell of progress; return all lines.

    On a terminal they come as they are; elsewhere, e.g. in the log of a CI, the last
    one is printed with the time that the step took.
    """
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in child.stdout:
            lines.put(line.rstrip())
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    start, seen, last = time.perf_counter(), [], ''
    live = sys.stdout.isatty()
    while True:
        try:
            line = lines.get(timeout=QUIET)
        except queue.Empty:
            if live:
                print(f'    ... {time.perf_counter() - start:.0f} s', flush=True)
            continue
        if line is None:
            if not live:
                seconds = time.perf_counter() - start
                print(f'    {seconds:.0f} s  {last}'.rstrip(), flush=True)
            return seen
        seen.append(line)
        if found := SHOWN.search(line):
            last = found[0][:120]
            if live:
                print('   ', last, flush=True)


def test(name: str, checkpoint: Path, config: str, *options: object) -> float:
    """COCO mAP of a checkpoint on the val split."""
    folder = WORK / 'test' / name
    out = folder / 'metrics.json'
    run(out, 'tools/test.py', config, checkpoint, *options, '--work-dir', folder,
        '--out', out, after=[checkpoint])
    return json.loads((ROOT / out).read_text())['coco/bbox_mAP']


def report(rows: tuple, maps: dict[str, float], tuned: float) -> None:
    """Print the trade-off with the mAP on the val split."""
    lines = []
    for row in rows:
        searched = (f'{row.macs / 1e6:.1f} M', f'{row.macs_ratio:.0%}',
                    f'{row.params / 1e3:.0f} k')
        lines.append((row.target, *searched, f'{row.score:.3f}',
                      f'{maps[row.target]:.3f}'))
        if row.target == TARGET:
            lines.append((f'{TARGET}, fine-tuned', *searched, '', f'{tuned:.3f}'))
    print()
    TextTable(
        'Handwritten digits, COCO mAP',
        ('network', 'MACs', 'of dense', 'params', 'search images', 'val'),
        tuple(lines)).print()


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        sys.exit('\n[demo] interrupted; run it again to continue.')
