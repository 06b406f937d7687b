"""The report of a search: one HTML file that opens offline."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..errors import DataError
from ..files import read_json, write_text
from ..options import record
from ..policy import ModelGraph, Policy
from .drawing import HEIGHT, MIDDLE, WIDTH
from .formats import format_share
from .page import FEW, Gallery, make_page
from .results import Results, load_results
from .summary import GraphSummary
from .tradeoff import Tradeoff

GALLERY = 'gallery.json'
"""File of a work dir that holds a :class:`Gallery`."""


def write_report(
    path: str | Path,
    tradeoff: Tradeoff,
    graph: ModelGraph | GraphSummary,
    policies: Mapping[str, Policy],
    facts: Mapping[str, str],
) -> Path:
    """Write the report; results beside it (:mod:`.results`) go into it.

    Args:
        path (str | Path): The HTML file.
        tradeoff (Tradeoff): What the search found.
        graph (ModelGraph | GraphSummary): The model.
        policies (Mapping[str, Policy]): Best policy by target name.
        facts (Mapping[str, str]): Lines for the head. ``model`` and ``config``
            make the title.
    """
    folder = Path(path).parent
    pictures = folder / GALLERY
    try:
        gallery = record(Gallery, read_json(pictures)) if pictures.is_file() else None
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f'{pictures} is damaged ({error}); delete it.') from error
    return write_text(path, render_report(
        tradeoff, graph, policies, facts, _shown(folder), gallery,
        load_results(folder)))


def _shown(folder: Path) -> str:
    """A folder as it is typed: from here, if it is below."""
    short = os.path.relpath(folder)
    return str(folder.resolve()) if short.startswith('..') else short


def render_report(
    tradeoff: Tradeoff,
    graph: ModelGraph | GraphSummary,
    policies: Mapping[str, Policy],
    facts: Mapping[str, str],
    work_dir: str = 'WORK_DIR',
    gallery: Gallery | None = None,
    results: Results | None = None,
) -> str:
    """Return the text that :func:`write_report` writes."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.policies['json.dumps_kwargs'] = {'separators': (',', ':')}
    environment.filters['share'] = format_share
    template = environment.get_template('report.html.j2')
    return template.render(
        page=make_page(
            tradeoff, graph, policies, facts, work_dir, gallery, results), few=FEW,
        width=WIDTH, height=HEIGHT, middle=MIDDLE)
