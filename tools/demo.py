"""The whole job on a small example: train a detector, then compress it.

Every step is a command that a user would type, printed before it runs, so that the
output is a recipe. A step whose result is there is not repeated; one that was
interrupted continues where it was.
"""

from __future__ import annotations

import argparse
import queue
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DENSE, SEARCH = 'configs/demo/digits_detector.py', 'configs/demo/digits_search.py'
CHECKPOINT = Path('work_dirs/digits_detector/epoch_12.pth')
QUIET = 3.0
"""Seconds without output after which the time is shown."""
SHOWN = re.compile(r'(Epoch\((?:train|val)\).*|resumed epoch.*|\w*Error: .*)')


def main() -> None:
    """Run what is missing; the last step ends with the table."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    start = time.perf_counter()
    say('1/3 a detection set from scikit-learn\'s handwritten digits')
    run(Path('work_dirs/digits/options.json'), 'tools/make_digits.py')
    say('2/3 train a small YOLOX on it')
    run(CHECKPOINT, 'tools/train.py', DENSE, '--resume')
    say('3/3 search two budgets, fine-tune, put into 8 bits, export, test and time; '
        'tested on the val split, which no step before has seen')
    words = ['tools/compress.py', SEARCH, '--targets', 'macs=0.7,0.5', '--int8']
    print('  $ python', ' '.join(words), flush=True)
    done = subprocess.run([sys.executable, '-W', 'ignore', *words], cwd=ROOT)
    if done.returncode:
        sys.exit(f'[demo] failed: {" ".join(words)}')
    say(f'done in {time.perf_counter() - start:.0f} s')


def say(text: str) -> None:
    """Print a heading."""
    print(f'\n[demo] {text}', flush=True)


def run(result: Path, *command: object) -> None:
    """Run a tool unless its result exists."""
    words = ['python', *map(str, command)]
    print('  $', ' '.join(words), flush=True)
    if (ROOT / result).exists():
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


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        sys.exit('\n[demo] interrupted; run it again to continue.')
