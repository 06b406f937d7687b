"""Only rules know classes of layers: the core's source names none elsewhere."""

import ast
from pathlib import Path

import pytest
from torch import nn

import mmcompress

ROOT = Path(mmcompress.__file__).parent
KNOW_LAYERS = ('layers', 'openmmlab', 'testing', 'kinds.py')
CONTAINERS = {'Module', 'ModuleDict', 'ModuleList', 'ParameterDict', 'ParameterList',
              'Sequential'}
LAYERS = {name for name in dir(nn) if isinstance(getattr(nn, name), type)
          and issubclass(getattr(nn, name), nn.Module)} - CONTAINERS
PRIVATE = {'_ConvNd', '_ConvTransposeNd', '_BatchNorm', '_NormBase', '_InstanceNorm'}


def files():
    for path in sorted(ROOT.rglob('*.py')):
        if path.relative_to(ROOT).parts[0] not in KNOW_LAYERS:
            yield path


def names_of_layers(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in LAYERS and \
                isinstance(node.value, ast.Name) and node.value.id == 'nn':
            found.append(node.attr)
        elif isinstance(node, ast.Name) and node.id in PRIVATE:
            found.append(node.id)
        elif isinstance(node, ast.Compare) and '.__name__' in ast.unparse(node):
            found.append(ast.unparse(node))
    return found


def asked_attributes(path: Path) -> list[str]:
    """Attributes that layers have, in ``hasattr`` and ``getattr``."""
    attributes = {
        'in_channels', 'out_channels', 'in_features', 'out_features', 'groups', 'bias',
        'kernel_size', 'num_features', 'num_channels', 'num_groups', 'stride',
        'padding', 'normalized_shape', 'running_mean'}
    return [node.args[1].value for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            and node.func.id in ('hasattr', 'getattr') and len(node.args) > 1
            and isinstance(node.args[1], ast.Constant)
            and node.args[1].value in attributes]


@pytest.mark.parametrize('search', [names_of_layers, asked_attributes])
def test_no_layer_is_named_outside_its_page(search):
    found = {str(path.relative_to(ROOT)): names
             for path in files() if (names := search(path))}
    assert not found, 'ask the rule (mmcompress/layers/rule.py) instead'


def test_the_search_finds_something():
    assert names_of_layers(ROOT / 'layers' / 'conv.py')
