"""Weights that take over what removed channels did.

Least squares over channels: the removed inputs of a layer are predicted linearly from
those that stay, and the prediction goes into the weights (He et al., "Channel
Pruning", ICCV 2017, sec. 3.1; GRAIL, PMLR 328, 2026, for one Gram matrix a layer). The
closed form needs the dense statistic alone, no forward pass.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .moments import Moments

RIDGE = 1e-2
"""Added to the diagonal, as a share of its mean."""


def compensate(
    rows: Tensor, moments: Moments, kept: np.ndarray, ridge: float = RIDGE
) -> tuple[Tensor, Tensor]:
    """Weights on the channels that stay, and what the bias takes over.

    With ``W_S`` and ``W_R`` the weights on the columns that stay and that go, they are
    ``W_S + W_R H_RS (H_SS + ridge I)^-1``. It is solved for the layer's outputs, which
    are fewer than the columns that go.

    In the pixel form the same prediction serves every position of a window. Where the
    window reaches into the padding there is nothing to predict, and the bias, which is
    one number for the whole map, takes over the mean.

    Args:
        rows (Tensor): ``(out, in, *window)`` dense weights.
        moments (Moments): What the layer reads.
        kept (np.ndarray): Input channels that stay, ascending.
        ridge (float): See :data:`RIDGE`.

    Returns:
        tuple[Tensor, Tensor]: ``(out, kept, *window)`` and ``(out,)``, in the precision
        of ``rows``.
    """
    window = rows.shape[2:]
    size, device = len(moments.mean) // moments.window, moments.mean.device
    stay = moments.columns(torch.as_tensor(kept, device=device))
    gone = moments.columns(
        torch.as_tensor(np.setdiff1d(np.arange(size), kept), device=device))
    # (columns, out * positions outside the columns)
    flat = rows.flatten(1).reshape(len(rows), len(moments.mean), -1)
    removed = flat[:, gone].double().transpose(0, 1).flatten(1)
    covariance = moments.covariance[stay]
    own = covariance[:, stay]
    own.diagonal().add_(ridge * own.diagonal().mean().clamp_min(1e-30))
    moved = torch.cholesky_solve(
        covariance[:, gone] @ removed, torch.linalg.cholesky(own))
    shift = moments.mean[gone] @ removed - moments.mean[stay] @ moved
    shift = shift.reshape(len(rows), -1)
    if moments.window == 1:
        shift = shift * moments.coverage.flatten().to(shift)
    moved = moved.reshape(len(stay), len(rows), -1).transpose(0, 1)
    found = flat[:, stay] + moved.to(rows)
    return found.reshape(len(rows), -1, *window), shift.sum(1).to(rows)
