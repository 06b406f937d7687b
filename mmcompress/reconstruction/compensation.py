"""Weights that take over what removed channels did.

Least squares over channels: the removed inputs of a layer are predicted linearly from
those that stay, and the prediction goes into the weights (He et al., "Channel
Pruning", ICCV 2017, sec. 3.1; GRAIL, PMLR 328, 2026, for one Gram matrix a layer). The
closed form needs the dense statistic alone, no forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .moments import Moments

RIDGE = 1e-2
"""Added to the diagonal, as a share of its mean."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Columns of removed input channels as a linear function of those that stay.

    ``x_gone = offset + x_kept @ share``

    Args:
        kept, gone (Tensor): Numbers of the columns, ascending.
        share (Tensor): ``(kept, gone)`` float64.
        offset (Tensor): ``(gone,)`` float64.
    """

    kept: Tensor
    gone: Tensor
    share: Tensor
    offset: Tensor


def predict(moments: Moments, kept: np.ndarray, ridge: float = RIDGE) -> Prediction:
    """Predict the channels that go from those that stay.

    Args:
        moments (Moments): What the layer reads.
        kept (np.ndarray): Input channels that stay, ascending.
        ridge (float): See :data:`RIDGE`.
    """
    size, device = len(moments.mean) // moments.window, moments.mean.device
    stay = moments.columns(torch.as_tensor(kept, device=device))
    gone = moments.columns(
        torch.as_tensor(np.setdiff1d(np.arange(size), kept), device=device))
    own = moments.covariance[stay][:, stay]
    own.diagonal().add_(ridge * own.diagonal().mean().clamp_min(1e-30))
    share = torch.cholesky_solve(
        moments.covariance[stay][:, gone], torch.linalg.cholesky(own))
    return Prediction(
        stay, gone, share, moments.mean[gone] - moments.mean[stay] @ share)


def compensate(
    rows: Tensor, prediction: Prediction, moments: Moments
) -> tuple[Tensor, Tensor]:
    """Weights on the channels that stay, and what the bias takes over.

    In the pixel form the same prediction serves every position of a window. Where the
    window reaches into the padding there is nothing to predict, and the bias, which is
    one number for the whole map, takes over the mean.

    Args:
        rows (Tensor): ``(out, in, *window)`` dense weights.
        prediction (Prediction): Of the removed inputs.
        moments (Moments): What it was made of.

    Returns:
        tuple[Tensor, Tensor]: ``(out, kept, *window)`` and ``(out,)``, in the precision
        of ``rows``.
    """
    window = rows.shape[2:]
    # (out, columns, positions outside the columns)
    flat = rows.flatten(1).reshape(len(rows), len(moments.mean), -1)
    removed = flat[:, prediction.gone].double()
    moved = torch.einsum('orp,sr->osp', removed, prediction.share)
    shift = torch.einsum('orp,r->op', removed, prediction.offset)
    if moments.window == 1:
        shift = shift * moments.coverage.flatten().to(shift)
    found = flat[:, prediction.kept] + moved.to(rows)
    return found.reshape(len(rows), -1, *window), shift.sum(1).to(rows)
