"""The fenced blocks of a page, and running them at a tiny size.

Marks are comments in the page, which readers do not see:

- ``<!-- not run: REASON -->`` above a block: it is left out.
- ``<!-- continues: PAGE -->`` anywhere: the page goes on in the folder of another one.
- ``<!-- given: NAME, ... -->`` anywhere: names of given.py that the page's Python uses.

A Python block whose first line is a comment with a file's name is that file. Python
blocks of a page share their names. Shell blocks are run by bash and stop at an error.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(
    r'(?:<!-- not run: (?P<reason>[^>]+?) -->\s*)?'
    r'^(?P<indent> *)```(?P<language>\w+)\n(?P<text>.*?)^ *```$',
    re.MULTILINE | re.DOTALL)
NAME = re.compile(r'# (\w+\.py)\n')
SHELL = ('bash', 'shell', 'sh', 'console')
TINY = (
    (r'evaluations=\d+', 'evaluations=3'),
    (r'(?<=epochs=|.epoch_)12\b', '3'),  # trainings of the dense network
    (r'(?<=epochs=|.epoch_)4\b', '1'),
    (r'--epochs \d+', '--epochs 1'),
    (r'range\(10\)', 'range(2)'),
    (r'(?<=[ (_])images[ =]\d+', lambda found: f'{found[0][:7]}16'),
    (r'^(mmcompress benchmark .*)', r'\1 --repeats 3 --warm-up 1'),
)
"""What makes a job small: patterns and what takes their place."""


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
        line (int): Where it begins in its page.
        language (str): Word behind the fence.
        text (str): What is in it, without the indentation of the fence.
        reason (str | None): Why it is not run.
    """

    line: int
    language: str
    text: str
    reason: str | None = None

    @property
    def tiny(self) -> str:
        """The text for a small job."""
        text = self.text
        for pattern, instead in TINY:
            text = re.sub(pattern, instead, text, flags=re.MULTILINE)
        return text

    @property
    def file(self) -> str | None:
        """The name of the file that this is, if it is one."""
        found = NAME.match(self.text) if self.language == 'python' else None
        return found and found[1]


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page or a notebook, in order."""
    if page.suffix == '.ipynb':
        cells = json.loads(page.read_text())['cells']
        return [Block(number, 'python', ''.join(cell['source']) + '\n')
                for number, cell in enumerate(cells, 1) if cell['cell_type'] == 'code']
    return list(_fences(page.read_text(encoding='utf-8')))


def _fences(text: str) -> Iterator[Block]:
    for found in FENCE.finditer(text):
        indent = len(found['indent'])
        lines = (line[indent:] for line in found['text'].splitlines(keepends=True))
        yield Block(
            text.count('\n', 0, found.start('language')) + 1, found['language'],
            ''.join(line or '\n' for line in lines), found['reason'])


def mark_of(page: Path, name: str) -> str | None:
    """What a page says in a comment such as ``<!-- continues: PAGE -->``."""
    found = re.search(f'<!-- {name}: (.+?) -->', page.read_text(encoding='utf-8'))
    return found and found[1]


def run_python(block: Block, page: Path, names: dict) -> None:
    """Run a block in this process; a failure points at its line in the page."""
    code = '\n' * block.line + block.tiny
    exec(compile(code, str(page), 'exec'), names)


def run_shell(block: Block, folder: Path, binaries: Path, root: Path) -> None:
    """Run a block as a user would, with ``mmcompress`` and ``python`` in the path."""
    path = os.pathsep.join([str(binaries), os.environ['PATH']])
    done = subprocess.run(
        ['bash', '-euo', 'pipefail', '-c', block.tiny], cwd=folder, text=True,
        capture_output=True, timeout=900, env={
            **os.environ, 'PATH': path, 'PYTHONPATH': str(root),
            'OMP_NUM_THREADS': '1'})
    assert done.returncode == 0, '\n'.join(
        [block.tiny, done.stdout[-2000:], done.stderr[-3000:]])
