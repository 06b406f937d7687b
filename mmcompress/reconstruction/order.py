"""The order in which channels are removed, and what each removal costs.

Optimal Brain Surgeon over whole channels (Hassibi & Stork, 1993; Frantar & Alistarh,
"Optimal Brain Compression", NeurIPS 2022, for layers): when a channel goes, the weights
on the others are changed so that the layer's outputs change least, and what then
remains of the change is the cost of the channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PRICING_RIDGE = 1e-4
"""Ridge of costs, as a share of the mean diagonal: enough to invert, no more."""
STEPS = 256
"""Steps in which all channels of a unit go: those of a wider one several at a time, as
each step passes over whole matrices."""
SHRINKS = 0.875
"""Share of the columns that is left when matrices are made smaller."""


@dataclass(frozen=True, eq=False)
class Reader:
    """A layer that reads the channels of a unit.

    Args:
        covariance (Tensor): ``(K, K)`` of the columns that it reads; see
            :class:`mmcompress.reconstruction.moments.Moments`.
        gram (Tensor): ``(K, K)``: inner products of the weights on the columns, summed
            over outputs, and in the pixel form over the window.
        positions (Tensor): ``(width, count)``: columns that each channel of the unit
            feeds.
    """

    covariance: Tensor
    gram: Tensor
    positions: Tensor

    @property
    def energy(self) -> Tensor:
        """Variance of the layer's outputs, summed over them: ``tr(B' H B)``."""
        return (self.covariance * self.gram).sum()


@dataclass(frozen=True, eq=False)
class Elimination:
    """Channels of a unit from the first to go to the last one left.

    Args:
        order (Tensor): ``(width,)`` channel numbers, the cheapest to remove first.
        losses (Tensor): ``(width + 1,)`` float64: with the first k of them removed and
            the weights on the others repaired, the mean square error of the readers'
            outputs over their variance, summed over the readers. The ridge is not in
            it.
    """

    order: Tensor
    losses: Tensor

    @property
    def ranking(self) -> Tensor:
        """Channel numbers, the most important first."""
        return self.order.flip(0)

    def price(self, width: int) -> float:
        """What keeping ``width`` channels loses."""
        return float(self.losses[len(self.order) - width])


class _Surgery:
    """One reader while channels leave: inverse covariance and weights, down-dated.

    With ``B`` the weights as ``(K, outputs)``, removing the channels ``p``
    costs ``tr(B_p' (Hinv_pp)^-1 B_p)`` and changes ``B`` by ``-Hinv_:p (Hinv_pp)^-1
    B_p``. Only ``G = B B'`` is kept, which all costs follow from. Rows and columns of
    what is gone are zeros; from time to time they are left out, as a step passes over
    all of a matrix.
    """

    def __init__(self, reader: Reader, ridge: float) -> None:
        covariance = reader.covariance.double()
        size = len(covariance)
        scale = covariance.diagonal().mean().clamp_min(1e-30)
        damped = covariance + ridge * scale * torch.eye(
            size, dtype=torch.float64, device=covariance.device)
        self.inverse = torch.linalg.inv(damped)
        self.covariance = self.with_all = covariance
        self.gram = reader.gram.double().clone()
        self.cross = self.gram.clone()  # B B_0', of the weights now and at first
        self.energy = reader.energy.double().clamp_min(1e-30)
        self.at_first = (covariance * self.gram).sum()
        self.positions = reader.positions
        self.stays = torch.ones(size, dtype=torch.bool, device=covariance.device)

    def costs(self, left: Tensor) -> Tensor:
        """Cost over the energy of the channels that ``left`` marks, ``(count,)``."""
        positions = self.positions[left]
        if positions.shape[1] == 1:
            place = positions[:, 0]
            own = self.inverse.diagonal()[place]
            return self.gram.diagonal()[place] / own.clamp_min(1e-30) / self.energy
        rows, columns = positions[:, :, None], positions[:, None, :]
        solved = torch.linalg.solve(
            self.inverse[rows, columns], self.gram[rows, columns])
        return solved.diagonal(dim1=1, dim2=2).sum(1) / self.energy

    def loss(self) -> Tensor:
        """Error of the outputs over their variance: ``tr(dB' H dB)`` by energy."""
        now = self.covariance.flatten() @ self.gram.flatten()
        both = self.with_all.flatten() @ self.cross.flatten()
        return (now - 2 * both + self.at_first) / self.energy

    def remove(self, channels: Tensor) -> None:
        """Down-date for channels that go together."""
        place = self.positions[channels].flatten()
        columns = self.inverse[:, place]
        share = torch.linalg.solve(columns[place], columns.T).T  # (K, count)
        self.inverse.addmm_(share, columns.T, alpha=-1)
        # B := B - share B_p, and G = B B'.
        gone = self.gram[place]
        half = gone - 0.5 * gone[:, place] @ share.T
        self.gram.addmm_(share, half, alpha=-1)
        self.gram.addmm_(half.T, share.T, alpha=-1)
        self.cross.addmm_(share, self.cross[place], alpha=-1)
        # What is removed has no weight and no partners any more; exactly.
        for matrix in (self.inverse, self.gram):
            matrix[place] = 0
            matrix[:, place] = 0
        self.cross[place] = 0
        self.stays[place] = False
        if self.stays.sum() < SHRINKS * len(self.stays):
            self._leave_out()

    def _leave_out(self) -> None:
        """Make the matrices smaller by what is gone."""
        stays = self.stays.nonzero()[:, 0]
        self.inverse, self.gram, self.covariance = (
            matrix[stays][:, stays]
            for matrix in (self.inverse, self.gram, self.covariance))
        self.cross, self.with_all = self.cross[stays], self.with_all[stays]
        places = torch.zeros_like(self.stays, dtype=torch.long)
        places[stays] = torch.arange(len(stays), device=stays.device)
        self.positions = places[self.positions]
        self.stays = self.stays[stays]


def eliminate(
    readers: Sequence[Reader], width: int, ridge: float = PRICING_RIDGE,
    fixed: Sequence[int] | None = None,
) -> Elimination:
    """Remove the channels of a unit one after the other, always the cheapest.

    Which one is cheapest is decided by the costs of :class:`_Surgery`, ridge included.
    Those of a unit wider than :data:`STEPS` go several at a time; losses between are
    interpolated.

    Args:
        readers (Sequence[Reader]): All layers that mix the unit's channels.
        width (int): Channels of the unit.
        ridge (float): Added to the diagonals, as a share of their mean.
        fixed (Sequence[int] | None): An order to price instead, the first to go first.
    """
    surgeries = [_Surgery(reader, ridge) for reader in readers]
    device = readers[0].covariance.device
    left = torch.ones(width, dtype=torch.bool, device=device)
    order = torch.empty(0, dtype=torch.long)
    losses = [torch.zeros(1, dtype=torch.float64, device=device)]
    at_once = -(-width // STEPS)
    while len(order) < width:
        count = min(at_once, width - len(order))
        if fixed is None:
            total = torch.stack([surgery.costs(left) for surgery in surgeries]).sum(0)
            channels = left.nonzero()[total.argsort(stable=True)[:count], 0]
        else:
            channels = torch.as_tensor(fixed[len(order):len(order) + count]).to(device)
        order = torch.cat([order, channels.cpu()])
        left[channels] = False
        for surgery in surgeries:
            surgery.remove(channels)
        loss = torch.stack([surgery.loss() for surgery in surgeries]).sum()
        shares = torch.arange(1, count + 1).to(loss) / count
        losses.append(losses[-1][-1] + shares * (loss - losses[-1][-1]))
    return Elimination(order, torch.cat(losses))
