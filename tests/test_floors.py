"""A room imports only from rooms below it; the floors are in pyproject.toml."""

from pathlib import Path

import pytest
from importlinter import cli

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {'__init__', '_torchvision', 'quiet'}  # what every floor may use


@pytest.fixture
def contracts() -> list[dict]:
    """The contracts as they are written."""
    from importlinter.application.use_cases import read_user_options

    options = read_user_options(config_filename=str(ROOT / 'pyproject.toml'))
    return options.contracts_options


def test_contracts_are_kept(capsys: pytest.CaptureFixture) -> None:
    code = cli.lint_imports(
        config_filename=str(ROOT / 'pyproject.toml'), no_cache=True)
    assert code == cli.EXIT_STATUS_SUCCESS, capsys.readouterr().out


def test_every_room_is_on_a_floor(contracts: list[dict]) -> None:
    layers = ' '.join(contracts[0]['layers']).replace('|', ' ').split()
    rooms = {path.stem for path in (ROOT / 'mmcompress').iterdir()
             if path.suffix == '.py' or (path / '__init__.py').exists()}
    assert {f'mmcompress.{room}' for room in rooms - OUTSIDE} == set(layers)
