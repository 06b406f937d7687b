"""Every command and every line of Python in README, tutorials and guides runs."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from blocks import SHELL, Block, blocks_of, mark_of, run_python, run_shell
from mmengine.registry import Registry

from mmcompress import registry

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / 'docs'
PAGES = [ROOT / 'README.md', DOCS / 'index.md', DOCS / 'get_started.md', *sorted(
    path for folder in ('tutorials', 'how_to') for path in (DOCS / folder).iterdir()
    if path.suffix in ('.md', '.ipynb'))]
LANGUAGES = {*SHELL, 'python', 'text', 'ini', 'json', 'yaml'}


class Runs:
    """Pages that have been run, and the folder of each.

    Args:
        root (Path): Where the folders are made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders: dict[Path, Path] = {}
        self.binaries = root / 'bin'
        self.binaries.mkdir()
        for name, words in (('python', ''), ('mmcompress', '-m mmcompress')):
            command = self.binaries / name
            command.write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
            command.chmod(0o755)

    def run(self, page: Path) -> Path:
        """Run a page, behind the one that it continues, unless that is done."""
        if page in self.folders:
            return self.folders[page]
        before = mark_of(page, 'continues')
        if before:
            folder = self.run((page.parent / before).resolve())
        else:
            folder = self.root / page.relative_to(ROOT).with_suffix('')
            folder.mkdir(parents=True)
        names = {'__name__': '__main__'}
        given = mark_of(page, 'given')
        if given:
            known = runpy.run_path(str(Path(__file__).with_name('given.py')))
            names |= {name: known[name] for name in given.split(', ')}
        here = Path.cwd()
        os.chdir(folder)
        try:
            with registered_by_us_alone():
                for block in blocks_of(page):
                    if not block.reason:
                        self.run_block(block, page, folder, names)
        finally:
            os.chdir(here)
        self.folders[page] = folder
        return folder

    def run_block(self, block: Block, page: Path, folder: Path, names: dict) -> None:
        """Run a block, or write the file that it is."""
        if block.file:
            (folder / block.file).write_text(block.tiny)
        elif block.language == 'python':
            run_python(block, page, names)
        elif block.language in SHELL:
            run_shell(block, folder, self.binaries, ROOT)


@contextmanager
def registered_by_us_alone() -> Iterator[None]:
    """Registries without what tests have registered, and as they were afterwards."""
    known = [x._module_dict for x in vars(registry).values() if isinstance(x, Registry)]
    before = [dict(entries) for entries in known]
    for entries in known:
        for name, entry in list(entries.items()):
            if entry.__module__.startswith('test_'):
                del entries[name]
    try:
        yield
    finally:
        for entries, kept in zip(known, before):
            entries.clear()
            entries.update(kept)


@pytest.fixture(scope='session')
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """See :class:`Runs`."""
    return Runs(tmp_path_factory.mktemp('pages'))


@pytest.mark.slow
@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_blocks_run(page: Path, runs: Runs) -> None:
    if not (ROOT / 'mmcompress/.mim/configs').exists():
        pytest.skip('configs are inherited from an installation (make install)')
    runs.run(page)


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_blocks_have_a_language_and_a_reason(page: Path) -> None:
    blocks = blocks_of(page)
    if page.suffix == '.md':  # otherwise a fence would be overlooked
        assert page.read_text().count('```') == 2 * len(blocks)
    for block in blocks:
        assert block.language in LANGUAGES
        assert block.reason is None or len(block.reason) > 10


def test_marks_and_files_are_found(tmp_path: Path) -> None:
    page = tmp_path / 'page.md'
    page.write_text(
        'Words.\n\n    <!-- not run: it needs a GPU -->\n    ```bash\n    a\n    ```\n'
        '<!-- given: net, top1 -->\n```python\n# one.py\nevaluations=60\n```\n')
    first, second = blocks_of(page)
    assert (first.language, first.text, first.reason) == (
        'bash', 'a\n', 'it needs a GPU')
    assert second.file == 'one.py' and 'evaluations=3' in second.tiny
    assert second.line == 8 and mark_of(page, 'given') == 'net, top1'
