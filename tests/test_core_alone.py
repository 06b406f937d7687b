"""The core needs none of mmcv, mmdet, mmpretrain, and nothing of mmengine's runner."""

import ast
from pathlib import Path

import pytest
from without_openmmlab import run_blocked

import mmcompress

ROOT = Path(mmcompress.__file__).parent
WINGS = ('openmmlab', 'testing')
"""Rooms above the core."""

FORBIDDEN = ('mmcv', 'mmdet', 'mmpretrain', 'mmcompress.openmmlab',
             'mmcompress.testing',
             *(f'mmengine.{room}' for room in (
                 'runner', 'model', 'dataset', 'evaluator', 'hooks', 'dist')))

SCRIPT = '''
import importlib, sys

for name in sys.argv[1:]:
    importlib.import_module(name)
assert not [m for m in sys.modules if m.startswith('mmcompress.openmmlab')]

import torch
from torch import nn
from mmcompress.graph import trace, verify
from mmcompress.policy import Policy
from mmcompress.surgery.materialise import materialise

model = nn.Sequential(
    nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
graph = verify(model, trace(model, (3, 8, 8)))
slim = materialise(model, graph, Policy({u.name: 2 for u in graph.units}))
assert [tuple(slim[i].weight.shape[:2]) for i in (0, 3)] == [(2, 3), (2, 2)]
assert slim(torch.randn(1, 3, 8, 8)).shape == (1, 2)
assert not [m for m in sys.modules if m.startswith('mmcompress.openmmlab')]
'''


def core_modules() -> list[str]:
    """Names of all modules of the core; nothing is imported to find them."""
    paths = [path.relative_to(ROOT) for path in sorted(ROOT.rglob('*.py'))]
    return ['.'.join(['mmcompress', *path.with_suffix('').parts]).removesuffix(
        '.__init__') for path in paths if path.parts[0] not in (*WINGS, '.mim')]


def test_a_plain_module_without_openmmlab(tmp_path):
    run_blocked(SCRIPT, *core_modules(), cwd=tmp_path)


@pytest.mark.parametrize('name', core_modules())
def test_no_import_of_the_wings(name):
    path = ROOT.joinpath(*name.split('.')[1:])
    path = path / '__init__.py' if path.is_dir() else path.with_suffix('.py')
    found = {x for x in imports_of(path, name) for bad in FORBIDDEN
             if f'{x}.'.startswith(f'{bad}.')}
    assert not found


def imports_of(path: Path, name: str) -> set[str]:
    """Absolute names of what the source imports, wherever in it."""
    package = name.split('.') if path.name == '__init__.py' else name.split('.')[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else []
            base = '.'.join([*base, *filter(None, [node.module])])
            found |= {f'{base}.{alias.name}' for alias in node.names}
    return found
