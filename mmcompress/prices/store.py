"""Arrays on disk, so that prices are computed once and survive a kill."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ..errors import DataError
from ..files import replacing, write_text
from ..plain import digest


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
        self.folder = Path(folder) / digest(key)
        write_text(self.folder / 'key.json', json.dumps(key, sort_keys=True))

    def get(self, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """An array that was put under this name, else None.

        Args:
            name (str): The name.
            shape (tuple[int, ...]): Its shape; -1 for any length.

        Raises:
            DataError: The file is damaged.
        """
        path = self.folder / f'{name}.npy'
        if not path.exists():
            return None
        try:
            array = np.load(path, allow_pickle=False)
            if not np.isfinite(array).all() or len(array.shape) != len(shape) or any(
                    n not in (-1, m) for n, m in zip(shape, array.shape)):
                raise ValueError('its numbers are not those of prices')
        except (OSError, ValueError, TypeError, AttributeError, EOFError, MemoryError,
                BadZipFile) as error:
            raise DataError(
                f'{path} is damaged ({error}); delete it, and run the command again, '
                'which computes it anew.') from error
        return array

    def put(self, name: str, array: np.ndarray) -> None:
        """Keep an array."""
        with replacing(self.folder / f'{name}.npy') as temporary:
            np.save(temporary, array, allow_pickle=False)
