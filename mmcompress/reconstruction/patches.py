"""Covariances of all that a layer multiplies for one place of its output.

The statistic of :mod:`.moments` over the window as well: ``channels x window`` columns,
for every group of a layer apart. It is what rounding needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..arithmetic.slices import Kept, window
from ..data.images import Batch
from ..layers.rule import rule_of
from ..surgery.modes import evaluating, in_float
from .columns import LARGEST, columns_at, has_columns
from .guidance import calls, drawn_by
from .sums import Sums

PLACES = 2 ** 17
"""Most places of a layer's output that are looked at, drawn at random."""
PER_COLUMN = 16
"""Places for each column, where this is fewer, but at least :data:`FEWEST`."""
FEWEST = 2 ** 13


def patch_columns(module: nn.Module, x: Tensor, places: Tensor) -> Tensor:
    """What some places of a layer's output are computed from, by group.

    Args:
        module (nn.Module): A convolution with two axes or a linear layer.
        x (Tensor): Its input.
        places (Tensor): ``(n,)`` numbers of places, images first, then rows.

    Returns:
        Tensor: ``(n, groups, in / groups * window)``, in the order of the weight's
        columns.
    """
    return columns_at(module, x, places).transpose(0, 1)


def has_patches(module: nn.Module) -> bool:
    """Whether :func:`measure_patches` knows a layer.

    Those it does not know: transposed convolutions, others with one or three axes or
    another padding than zeros, and layers with more than ``LARGEST`` columns a group.
    """
    return has_columns(module) and rule_of(module).weight(module)[0].numel() <= LARGEST


def kept_columns(covariance: Tensor, kept: Kept, size: int) -> Tensor:
    """The part of a covariance that a layer still has of its input.

    Args:
        covariance (Tensor): ``(groups, columns, columns)``.
        kept (np.ndarray | None): Input channels that stay, None for all.
        size (int): Columns of one channel: elements of the window.
    """
    if kept is None:
        return covariance
    channels = covariance.shape[1] // size
    groups = np.unique(kept // channels)
    within = window(kept, channels)
    covariance = covariance[torch.as_tensor(groups)]
    if within is None:
        return covariance
    columns = torch.as_tensor((within[:, None] * size + np.arange(size)).ravel())
    return covariance[:, columns][:, :, columns]


@torch.no_grad()
def measure_patches(
    model: nn.Module, layers: Mapping[str, nn.Module], batches: Sequence[Batch],
    views: Callable[[str, Tensor], Mapping[int, Tensor]], seed: int = 0,
) -> dict[str, dict[int, Tensor]]:
    """Run images through the model and watch what layers multiply.

    Places of the outputs are drawn by how much an error there changes what the network
    says (:mod:`.guidance`). Memory: 8 bytes for every pair of columns of every group,
    layer and view, and a forward and backward pass of a batch.

    Args:
        model (nn.Module): The dense model; it computes in float and evaluation mode.
        layers (Mapping[str, nn.Module]): Of :func:`has_patches`.
        batches (Sequence[Batch]): Unlabelled images.
        views (Callable): From a layer's name and columns to what is measured of them,
            by any key: the columns at several bits.
        seed (int): Of the places that are drawn. Defaults to 0.

    Returns:
        dict[str, dict[int, Tensor]]: Covariances ``(groups, columns, columns)``
        float64, centred, by layer that the images reach and key.
    """
    generator = torch.Generator().manual_seed(seed)
    sums: dict[str, dict[int, Sums]] = {}
    with evaluating(model), in_float(model):
        for batch in batches:
            for name, x, weights in calls(model, layers, batch, generator):
                if not len(weights):
                    continue
                module, mine = layers[name], sums.setdefault(name, {})
                wanted = max(FEWEST, PER_COLUMN * module.weight[0].numel())
                share = -(-min(PLACES, wanted) // len(batches))
                places = drawn_by(weights, share, generator)
                columns = patch_columns(module, x, places)
                for key, view in views(name, columns).items():
                    rows = view.double().transpose(0, 1)  # groups first
                    if key not in mine:
                        mine[key] = Sums(rows)
                    mine[key].add(rows)
    return {name: {key: found.covariance for key, found in mine.items()}
            for name, mine in sums.items()}
