"""What mkdocs does not know about this repository; a hook of mkdocs.yml.

The README files of configs/, the change log and the guide for contributors are pages of
the site where they lie, and a notebook is a page, too. Relative links work in the
repository and on the site: those to pages lead to pages, those to other files of the
repository lead to it.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Page

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r'(?<=\]\()(?!\w+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))')
FENCE = re.compile(r'(^ *```.*?^ *```$)', re.MULTILINE | re.DOTALL)
PAGES = {'CHANGELOG.md': 'changelog.md', 'CONTRIBUTING.md': 'contributing.md'}
"""Files outside docs/ that are pages, and where they are on the site."""
ABSENT = {'reliability.md'}
"""Pages that the navigation leaves out until they are written."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leave out of the navigation what is not written yet."""
    missing = [name for name in ABSENT if not (ROOT / 'docs' / name).exists()]
    config.nav = [entry for entry in config.nav
                  if next(iter(entry.values())) not in missing]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside docs/, and the notebooks."""
    elsewhere = [*map(ROOT.joinpath, PAGES), *ROOT.glob('configs/**/README.md')]
    for path in sorted(elsewhere):
        page = File.generated(config, address(path), abs_src_path=str(path))
        page.inclusion = page.inclusion.NOT_IN_NAV
        files.append(page)
    for path in sorted((ROOT / 'docs').glob('**/*.ipynb')):
        uri = path.relative_to(ROOT / 'docs').with_suffix('.md').as_posix()
        files.append(File.generated(config, uri, content=notebook(path)))
    return files


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Rewrite the relative links of a page, but none inside code."""
    source = Path(page.file.abs_src_path or ROOT / 'docs' / page.file.src_uri)

    def link(match: re.Match[str]) -> str:
        path = Path(os.path.normpath(source.parent / match[1]))
        if not path.exists():
            path = path.with_suffix('.ipynb') if path.suffix == '.md' else path
        if not path.exists():
            raise PluginError(f'{source}: there is no {match[1]}')
        anchor = match[2] or ''
        uri = address(path)
        if files.get_file_from_path(uri):
            return os.path.relpath(uri, Path(page.file.src_uri).parent) + anchor
        kind = 'tree' if path.is_dir() else 'blob'
        where = path.relative_to(ROOT).as_posix()
        return f'{config.repo_url.rstrip("/")}/{kind}/main/{where}{anchor}'

    parts = FENCE.split(markdown)
    parts[::2] = (LINK.sub(link, part) for part in parts[::2])
    return ''.join(parts)


def address(path: Path) -> str:
    """Where a file of the repository is, or would be, on the site."""
    if (path / 'README.md').exists():
        path = path / 'README.md'
    name = path.relative_to(ROOT).as_posix()
    if path.suffix == '.ipynb':
        name = path.with_suffix('.md').relative_to(ROOT).as_posix()
    return PAGES.get(name, name.removeprefix('docs/'))


def notebook(path: Path) -> str:
    """The cells of a notebook as a page, with the text that they printed."""
    parts = []
    for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
        source = ''.join(cell['source'])
        if cell['cell_type'] == 'markdown':
            parts.append(source)
            continue
        parts.append(f'```python\n{source}\n```')
        printed = ''.join(
            text for output in cell['outputs'] for text in output.get('text', ()))
        if printed:
            parts.append(f'```text\n{printed.rstrip()}\n```')
    return '\n\n'.join(parts) + '\n'
