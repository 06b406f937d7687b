"""Weights of few bits, rounded so that errors cancel in the outputs.

GPTQ (Frantar et al., ICLR 2023): one input column after another is rounded, and the
columns that are not rounded yet make up for the error. With the covariance factored as
``H = (A + I) D (A + I)'``, A strictly upper triangular, the mean square error of the
outputs is ``tr(E H E') = sum_j D_jj |e_j + sum_(i<j) e_i A_ij|^2`` for ``E = W - Q``,
so column j is rounded at ``w_j + sum_(i<j) e_i A_ij``. That these are the values that
the Cholesky factor of the inverse leads to is theorem 6 of Chee et al. ("QuIP",
NeurIPS 2023); nothing has to be inverted.

Then every weight moves to the best integer in view of all others, sweep after sweep
(Behdin et al., "QuantEase", 2023), and the scale is fitted to the integers again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..arithmetic.quantizers import EPSILON

RIDGE = 1e-2
"""Added to the diagonal, as a share of its mean."""
SHARES = (0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
"""Shares of a row's largest weight that are tried as its range."""
BLOCK = 64
"""Columns that wait for the errors of all earlier ones together."""
SWEEPS = 3
"""Times that each weight is moved to its best integer, before and after the scale."""


def gptq(
    rows: Tensor, covariance: Tensor, scale: Tensor, top: int, ridge: float = RIDGE
) -> Tensor:
    """Round weights to multiples of a scale.

    A row for which rounding to the nearest is better keeps that.

    Args:
        rows (Tensor): ``(groups, out, columns)`` weights; groups are independent.
        covariance (Tensor): ``(groups, columns, columns)`` of the inputs of each group.
        scale (Tensor): ``(groups, out)`` step sizes.
        top (int): Largest integer; the smallest is its opposite.
        ridge (float): See :data:`RIDGE`.

    Returns:
        Tensor: As ``rows``.
    """
    step = scale[..., None]
    target, covariance = rows.double() / step, covariance.double()
    diagonal = covariance.diagonal(dim1=1, dim2=2)
    order = diagonal.argsort(dim=1, descending=True, stable=True)
    damped = covariance + torch.diag_embed(
        ridge * diagonal.mean(1, keepdim=True).clamp_min(1e-30).expand_as(diagonal))
    damped = damped.gather(1, order[:, :, None].expand_as(damped))
    damped = damped.gather(2, order[:, None].expand_as(damped))
    at = order[:, None].expand_as(target)
    ordered = _in_order(target.gather(2, at), damped, top)
    rounded = torch.empty_like(target).scatter_(2, at, ordered)
    nearest = target.round().clamp_(-top, top)
    worse = _loss(target - rounded, covariance) > _loss(target - nearest, covariance)
    return torch.where(worse[..., None], nearest, rounded).to(rows) * step


def gptq_scales(
    rows: Tensor, covariance: Tensor, start: Tensor, top: int, ridge: float = RIDGE
) -> tuple[Tensor, Tensor]:
    """Scales that suit weights that are rounded together, and these weights.

    Several scales are tried for every row. Integers ``n`` err least at the scale
    ``n'Hw / n'Hn``, by ``w'Hw - (n'Hw)^2 / n'Hn``; the least of these decides.

    Args:
        rows, covariance, top, ridge: See :func:`gptq`.
        start (Tensor): ``(groups, out)`` scales that are tried first; the others are
            :data:`SHARES` of the one at which the largest weight is ``top``.

    Returns:
        tuple[Tensor, Tensor]: ``(groups, out)``, and as ``rows``.
    """
    groups, out, size = rows.shape
    largest = (rows.abs().amax(2) / top).clamp_min(EPSILON)
    tried = torch.stack([start, *(largest * share for share in SHARES)], 2)
    many = rows[:, :, None].expand(*tried.shape, size).flatten(1, 2)
    rounded = gptq(many, covariance, tried.flatten(1), top, ridge)
    integers = (rounded / tried.flatten(1)[..., None]).round().double()
    fitted, gain = _fitted(integers, many, covariance, tried.flatten(1))
    best = gain.reshape(tried.shape).argmax(2, keepdim=True)
    scale = fitted.reshape(tried.shape).gather(2, best)[..., 0]
    at = best[..., None].expand(groups, out, 1, size)
    chosen = integers.reshape(*tried.shape, size).gather(2, at)[:, :, 0]
    for _ in range(2):
        chosen = _swept(chosen, rows.double() / scale[..., None], covariance, top)
        scale, _ = _fitted(chosen, rows, covariance, scale)
    scale = scale.to(rows)
    return scale, chosen.to(rows) * scale[..., None]


def _fitted(
    integers: Tensor, rows: Tensor, covariance: Tensor, start: Tensor
) -> tuple[Tensor, Tensor]:
    """The scales of least error, float64, and how much of the output they explain."""
    moved = integers @ covariance.double()
    energy, shared = ((moved * factor).sum(2) for factor in (integers, rows))
    useful = (energy > 0) & (shared > 0)
    return (torch.where(useful, shared / energy, start.double()),
            torch.where(useful, shared ** 2 / energy, 0))


def _swept(integers: Tensor, target: Tensor, covariance: Tensor, top: int) -> Tensor:
    """Every integer moved to the best one in view of the others, column by column."""
    integers, covariance = integers.clone(), covariance.double()
    slope = (target - integers) @ covariance
    curvature = covariance.diagonal(dim1=1, dim2=2).clamp_min(1e-30)
    for j in list(range(integers.shape[2])) * SWEEPS:
        wanted = integers[..., j] + slope[..., j] / curvature[:, j:j + 1]
        change = wanted.round().clamp_(-top, top) - integers[..., j]
        integers[..., j] += change
        slope -= change[..., None] * covariance[:, j:j + 1]
    return integers


def _in_order(target: Tensor, covariance: Tensor, top: int) -> Tensor:
    """Integers for ``target``, the columns rounded from the first to the last."""
    factor = torch.linalg.cholesky(covariance.flip(1, 2)).flip(1, 2)  # upper
    share = factor / factor.diagonal(dim1=1, dim2=2)[:, None]  # A + I
    rounded, error = torch.empty_like(target), torch.empty_like(target)
    size = target.shape[2]
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        carried = target[..., start:stop] + (
            error[..., :start] @ share[:, :start, start:stop])
        for j in range(start, stop):
            value = carried[..., j - start] + (
                error[..., start:j] @ share[:, start:j, j:j + 1]).squeeze(2)
            rounded[..., j] = value.round().clamp_(-top, top)
            error[..., j] = target[..., j] - rounded[..., j]
    return rounded


def _loss(error: Tensor, covariance: Tensor) -> Tensor:
    """Mean square of what errors add to the outputs, ``(groups, out)``."""
    return ((error @ covariance) * error).sum(2)
