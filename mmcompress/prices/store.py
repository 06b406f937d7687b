"""Arrays on disk, so that prices are computed once and survive a kill."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..files import replacing, write_text


class PriceStore:
    """A folder for one set of prices.

    Its name is a hash of everything that the prices depend on, so prices of other
    weights, images or settings are never mistaken for these. Several processes may
    write at once: a file appears complete or not at all, and equal names hold equal
    numbers.

    Args:
        folder (Path): Where the folder is made.
        key (Mapping): JSON data that the prices depend on.
    """

    def __init__(self, folder: Path, key: Mapping) -> None:
        text = json.dumps(key, sort_keys=True)
        self.folder = Path(folder) / hashlib.sha256(text.encode()).hexdigest()[:16]
        write_text(self.folder / 'key.json', text)

    def get(self, name: str) -> np.ndarray | None:
        """An array that was put under this name, else None."""
        path = self.folder / f'{name}.npy'
        return np.load(path, allow_pickle=False) if path.exists() else None

    def put(self, name: str, array: np.ndarray) -> None:
        """Keep an array."""
        with replacing(self.folder / f'{name}.npy') as temporary:
            np.save(temporary, array, allow_pickle=False)
