"""The layers that read a unit, as the order of its channels sees them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from ..layers.rule import rule_of
from ..policy import IN, ChannelUnit
from .moments import Moments
from .order import Reader


def names_of_readers(units: Iterable[ChannelUnit]) -> list[str]:
    """Names of the layers that read some units."""
    return sorted({member.layer for unit in units for member in unit.members
                   if member.side == IN})


def readers_of(
    model: nn.Module, unit: ChannelUnit, moments: Mapping[str, Moments]
) -> list[Reader]:
    """What :func:`eliminate` needs of the layers that mix a unit's channels.

    Args:
        model (nn.Module): The dense model.
        unit (ChannelUnit): The unit.
        moments (Mapping[str, Moments]): By layer.
    """
    found = []
    for member in unit.members:
        if member.side == IN and member.layer in moments:
            module = model.get_submodule(member.layer)
            rule = rule_of(module)
            rows = rule.by_output(module, rule.weight(module).detach()).double()
            seen = moments[member.layer]
            # In the pixel form one prediction serves all positions of the window.
            columns = rows.movedim(1, 0).reshape(len(seen.mean), -1) \
                if seen.window == 1 else rows.flatten(1).T
            positions = torch.as_tensor(member.positions, device=columns.device)
            found.append(Reader(
                seen.covariance, columns @ columns.T, seen.columns(positions)))
    return found
