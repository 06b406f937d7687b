"""The statistic of :mod:`.moments` on disk, for searches that are run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import nn

from ..data.images import Batch
from ..errors import DataError
from ..files import replacing
from ..plain import digest
from ..surgery.weights import tensors_digest, weights_digest
from .columns import LARGEST, PER_COLUMN
from .moments import PIXELS, Moments, measure

FIELDS = ('mean', 'covariance', 'coverage', 'window')


def measured_once(
    model: nn.Module, layers: Mapping[str, nn.Module], batches: Sequence[Batch],
    folder: Path | None = None,
) -> dict[str, Moments]:
    """What layers read; from ``folder`` where it was measured before.

    The name of the file is a hash of all that the statistic depends on: weights,
    images, layers and sizes. It takes 8 bytes for every pair of columns of every layer
    (some 900 MB of RetinaNet-R50), and is complete or not there.

    Args:
        model, layers, batches: See :func:`mmcompress.reconstruction.moments.measure`.
        folder (Path | None): Where it is kept. Defaults to None: nowhere.

    Raises:
        DataError: No images, or a file that is damaged.
    """
    if folder is None or not batches:
        return measure(model, layers, batches)
    name = digest(dict(
        weights=weights_digest(model), layers=sorted(layers),
        images=tensors_digest(batch.inputs for batch in batches),
        batches=[len(batch.inputs) for batch in batches],
        sizes=(LARGEST, PER_COLUMN, PIXELS)))
    path = Path(folder) / f'{name}.npz'
    if path.exists():
        return _read(path, next(model.parameters()).device)
    found = measure(model, layers, batches)
    with replacing(path) as temporary:
        np.savez(temporary, **{
            f'{name}:{field}': torch.as_tensor(getattr(moments, field)).cpu().numpy()
            for name, moments in found.items() for field in FIELDS})
    return found


def _read(path: Path, device: torch.device) -> dict[str, Moments]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = [key.rpartition(':')[0] for key in arrays if key.endswith(':mean')]
            return {name: Moments(
                torch.from_numpy(arrays[f'{name}:mean']).to(device),
                torch.from_numpy(arrays[f'{name}:covariance']).to(device),
                torch.from_numpy(arrays[f'{name}:coverage']),
                int(arrays[f'{name}:window'])) for name in names}
    except (BadZipFile, ValueError, KeyError, EOFError, OSError) as error:
        raise DataError(
            f'The statistic in {path} is damaged ({error}); delete the file, and it is '
            'measured again.') from error
