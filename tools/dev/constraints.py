"""Print the constraints file of the environment that this runs in.

.venv/bin/python tools/dev/constraints.py >requirements/constraints.txt

torch and torchvision are left out: tools/dev/setup_env.sh chooses their builds by the
device. A release that does not support the oldest Python gets a marker.
"""

from __future__ import annotations

import sys
from importlib.metadata import Distribution, distributions

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

OLDEST = (3, 10)
LEFT_OUT = {'mmcompress', 'pip', 'setuptools', 'torch', 'torchvision', 'wheel'}
HEADER = f"""\
# The releases that the tests run with; `make install` installs these. Written by
# tools/dev/constraints.py on Python {sys.version.split()[0]}."""


def main() -> None:
    """Print a line for every distribution."""
    found = {canonicalize_name(d.metadata['Name']): d for d in distributions()}
    print(HEADER)
    for name in sorted(set(found) - LEFT_OUT):
        print(line(name, found[name]))


def line(name: str, distribution: Distribution) -> str:
    """The constraint of one distribution."""
    pin = f'{name}=={distribution.version.partition("+")[0]}'
    supported = SpecifierSet(distribution.metadata['Requires-Python'] or '')
    for minor in range(OLDEST[1], sys.version_info.minor):
        if f'3.{minor}.99' not in supported:
            continue
        return pin if minor == OLDEST[1] else f'{pin}; python_version >= "3.{minor}"'
    return f'{pin}; python_version >= "3.{sys.version_info.minor}"'


if __name__ == '__main__':
    main()
