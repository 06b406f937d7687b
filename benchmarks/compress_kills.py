"""What a kill costs in every stage of `mmcompress compress`.

    python benchmarks/compress_kills.py configs/bccd/compress_yolox-nano_bccd.py \\
        --cfg-options load_from=CHECKPOINT --targets macs=0.7

The command runs once by itself. Then it runs in another work dir, is killed by SIGKILL
in the middle of one stage of each kind, and started again each time. The cost of a kill
is the time that the stage took with it, less the time without: what was done and is
done again, and the start of Python.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness import OUT, machine, parser, show

BEGUN = re.compile(r'^\[\d+/\d+\] (.+?) \.\.\.')
ENDED = re.compile(r'^\[\d+/\d+\] (.+?): [\d:]+ (?:s|min|h)$')
KINDS = ('search', 'test as searched', 'fine-tune', 'put into 8 bits', 'time')


class Command:
    """The running command, and when it says what.

    Args:
        words (Sequence[str]): Its command line.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.start = time.perf_counter()

    def says(self) -> Iterator[tuple[float, str, str]]:
        """Seconds since the start, ``'begun'`` or ``'ended'``, and the stage."""
        for line in self.process.stdout:
            now = time.perf_counter() - self.start
            for word, pattern in (('begun', BEGUN), ('ended', ENDED)):
                if found := pattern.match(line):
                    yield now, word, found[1]


def durations(words: Sequence[str]) -> dict[str, float]:
    """Seconds of every stage of a run by itself; the first one with Python's start."""
    found, before, command = {}, 0.0, Command(words)
    for now, word, stage in command.says():
        if word == 'ended':
            found[stage], before = now - before, now
    if command.process.wait():
        raise SystemExit(f'{" ".join(words)} ended with {command.process.returncode}.')
    return found


def cost(words: Sequence[str], stage: str, alone: float) -> float:
    """Seconds lost by a kill in the middle of a stage that earlier runs led to."""
    killed = Command(words)
    for now, word, name in killed.says():
        if word == 'begun' and name == stage:
            timer = threading.Timer(alone / 2, killed.process.send_signal,
                                    [signal.SIGKILL])
            timer.start()
            begun = now
        elif word == 'ended' and name == stage:
            timer.cancel()
            raise SystemExit(f'{stage} ended before it was killed.')
    killed.process.wait()
    spent = time.perf_counter() - killed.start - begun
    again = Command(words)
    for now, word, name in again.says():
        if word == 'ended' and name == stage:
            # Not into the next stage, which is to be killed in its middle.
            again.process.kill()
            again.process.wait()
            return spent + now - alone
    raise SystemExit(f'{stage} was not done again.')


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument('config')
    options.add_argument('--targets', nargs='+', default=['macs=0.7'])
    options.add_argument('--cfg-options', nargs='+', default=[])
    args = options.parse_args()
    folder, rows = OUT / 'compress_kills', []
    shutil.rmtree(folder, ignore_errors=True)

    def words(name: str) -> list[str]:
        tool = Path(__file__).parents[1] / 'tools/compress.py'
        return [sys.executable, str(tool), args.config, '--int8', '--work-dir',
                str(folder / name), '--targets', *args.targets,
                *(['--cfg-options', *args.cfg_options] if args.cfg_options else [])]

    alone = durations(words('alone'))
    stages = {next(stage for stage in alone if stage.startswith(kind)): kind
              for kind in KINDS}
    for stage in alone:  # in their order
        if stage in stages:
            rows.append((stage, f'{alone[stage]:.0f}',
                         f'{cost(words("killed"), stage, alone[stage]):.0f}'))
            print(*rows[-1], flush=True)
    show(machine(), ('stage', 'seconds by itself', 'seconds that a kill costs'), rows)


if __name__ == '__main__':
    main()
