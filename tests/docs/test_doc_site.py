"""The site is built without a warning, and its reference has no gaps."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted({
    name for page in (ROOT / 'docs').rglob('*.md')
    for name in re.findall(r'^::: (\S+)$', page.read_text(), re.MULTILINE)})


def found(name: str) -> object:
    """The module, class or function of a dotted name."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition('.')
        return getattr(import_module(module), attribute)


@pytest.mark.parametrize('name', NAMES)
def test_everything_in_the_reference_is_described(name: str) -> None:
    thing = found(name)
    assert inspect.getdoc(thing)
    if inspect.isclass(thing):
        for part, value in vars(thing).items():
            if callable(value) and not part.startswith(('_', 'test_')):
                assert inspect.getdoc(getattr(thing, part)), f'{name}.{part}'


def test_the_readme_fits_a_screen() -> None:
    assert len((ROOT / 'README.md').read_text().split()) < 900


def test_links_of_the_repository_lead_somewhere() -> None:
    pages = [*ROOT.glob('*.md'), *(ROOT / 'docs').rglob('*.md'),
             *(ROOT / 'configs').rglob('*.md')]
    for page in pages:
        text = re.sub(r'^ *```.*?^ *```$', '', page.read_text(), flags=re.M | re.S)
        for target in re.findall(r'\]\((?!\w+:|#)([^)\s#]+)', text):
            path = page.parent / target
            known = path.exists() or path.with_suffix('.ipynb').exists()
            assert known, f'{page.relative_to(ROOT)}: {target}'


def test_the_site_is_built_strictly(tmp_path: Path) -> None:
    if importlib.util.find_spec('mkdocs') is None:
        pytest.skip('no mkdocs (requirements/docs.txt)')
    done = subprocess.run(
        [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--quiet',
         '--site-dir', str(tmp_path)], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, 'NO_MKDOCS_2_WARNING': '1'})
    assert done.returncode == 0, done.stdout + done.stderr
    for page in ('index', 'tutorials/any_module/index', 'changelog/index',
                 'configs/index', 'reference/python/index'):
        assert (tmp_path / f'{page}.html').is_file(), page
