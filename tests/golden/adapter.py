"""Where the package keeps what the golden runs of networks call.

Everything that a redesign of the package has to touch in the golden runs is here: when
a name moves, add its new module, so that both the old checkout and the new one work.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

MODULES = dict(
    trace=('mmcompress.graph',),
    verify=('mmcompress.graph',),
    SearchSpace=('mmcompress.policy',),
    Costs=('mmcompress.costs',),
    CostTable=('mmcompress.costs',),
    materialise=('mmcompress.deploy', 'mmcompress.surgery.materialise'),
    input_shape_of=(
        'mmcompress.engine.input_shape', 'mmcompress.openmmlab.input_shape'),
)
"""Modules by name, in the order in which they are tried."""


def find(name: str) -> Any:
    """The function or class of the package that is imported.

    Raises:
        ImportError: No module of :data:`MODULES` has it.
    """
    for path in MODULES[name]:
        try:
            module = import_module(path)
        except ModuleNotFoundError as error:
            # A module that is there and lacks another one is broken, not elsewhere.
            if error.name is None or not f'{path}.'.startswith(f'{error.name}.'):
                raise
            continue
        if hasattr(module, name):
            return getattr(module, name)
    raise ImportError(
        f'{name} is in none of {", ".join(MODULES[name])}; add its module to '
        'tests/golden/adapter.py.')
