"""Running the examples as users do, on files and folders."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

SIZES = ((40, 60), (61, 47), (64, 64), (90, 51))


@pytest.fixture
def example(repo: Path) -> Iterator[Callable[..., dict[str, Any]]]:
    """Runs a program of examples/ and gives the names that it defines."""
    argv, path = sys.argv, list(sys.path)
    sys.path.insert(0, str(repo / 'examples'))  # as Python does for a program

    def run(name: str, *args: object, main: bool = True) -> dict[str, Any]:
        if 'openvino' in name:
            pytest.importorskip('openvino')
        sys.argv = [name, *map(str, args)]
        return runpy.run_path(
            str(repo / f'examples/{name}.py'), run_name='__main__' if main else name)

    yield run
    sys.argv, sys.path[:] = argv, path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of several shapes."""
    rng, made = np.random.default_rng(0), tmp_path / 'images'
    made.mkdir()
    for i, (height, width) in enumerate(SIZES):
        coarse = rng.integers(0, 256, (8, 8, 3), np.uint8)
        cv2.imwrite(str(made / f'{i}.png'), cv2.resize(coarse, (width, height)))
    return made
