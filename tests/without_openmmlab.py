"""Python that runs as if OpenMMLab's packages, but for mmengine, were not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BLOCKED = '''
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('mmcv', 'mmdet', 'mmpretrain') or \\
                name.startswith('mmengine.runner'):
            raise ImportError(f'{name} is blocked')

sys.meta_path.insert(0, Blocked())
'''


def run_blocked(script: str, *words: object, cwd: Path) -> str:
    """What a script prints in a process of its own, which has to succeed."""
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', BLOCKED + script, *map(str, words)],
        cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
