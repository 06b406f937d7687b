"""The command ``mmcompress``: one name for the programs of tools/.

An installation carries them in ``mmcompress/.mim/tools``, where OpenMMLab's tools look
for them; nothing of them is repeated here.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

from . import __version__
from .files import shipped

PROGRAMS = {
    'search': 'search a family of compressed networks',
    'train': 'train a network, or fine-tune one of a family',
    'test': 'test a checkpoint or an exported file',
    'export': 'write a checkpoint as ONNX, also in 8 bits',
    'compress': 'all of these in one command, ending with one table',
    'benchmark': 'compare the speed of exported files',
    'report': 'draw the report of a search again, or compare searches',
    'zoo': 'list the published policies, with their cost and score',
    'check-zoo': 'check which configs of the model zoo can be compressed',
}
"""Every program and what it does, in the order of their use."""

FILES = {'zoo': 'policies'}
"""Programs whose file has another name: tools/zoo is the package of check-zoo."""

USAGE = """usage: mmcompress PROGRAM [ARGUMENTS]

{programs}

mmcompress PROGRAM --help describes the arguments. See also: mmcompress --version.
"""


def main(arguments: Sequence[str] | None = None) -> int | str | None:
    """Run the program that the first argument names.

    Args:
        arguments (Sequence[str] | None): The words after ``mmcompress``. Defaults to
            those of the command line.

    Returns:
        An exit status, or what to say in place of one. Programs that fail exit
        themselves.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ('-h', '--help'):
        print(usage(), end='')
        return 0 if words else 2
    if words[0] == '--version':
        print(f'mmcompress {__version__}')
        return 0
    if words[0] not in PROGRAMS:
        return f'mmcompress has no program {words[0]!r}.\n\n{usage()}'
    try:
        try:
            run(*words)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads has seen enough: mmcompress zoo | head. Python would flush once
        # more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return None


def usage() -> str:
    """The list of programs."""
    width = max(map(len, PROGRAMS))
    lines = (f'  {name:{width}}  {text}' for name, text in PROGRAMS.items())
    return USAGE.format(programs='\n'.join(lines))


def run(name: str, *arguments: str) -> None:
    """Run a program in this process, as ``python tools/<file>.py`` would."""
    path = file_of(name)
    sys.argv = [f'mmcompress {name}', *arguments]  # as usage lines name it
    sys.path.insert(0, str(path.parent))
    loader = SourceFileLoader('__main__', str(path))
    loader.exec_module(module_from_spec(spec_from_loader('__main__', loader)))


def file_of(name: str) -> Path:
    """The file of a program, in the installation or beside the package."""
    return shipped('tools') / f'{FILES.get(name, name.replace("-", "_"))}.py'


if __name__ == '__main__':
    sys.exit(main())
