"""Building the physically small model of a policy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import nn

from ..errors import PolicyError
from ..policy import ModelGraph, Policy
from .copies import copy_of
from .selection import Selection
from .shadow import overwrite


def materialise(
    model: nn.Module,
    graph: ModelGraph,
    policy: Policy,
    channels: Mapping[str, np.ndarray] | None = None,
    inplace: bool = False,
) -> nn.Module:
    """Slice every layer for good.

    Args:
        model (nn.Module): The dense model, not acting as any policy.
        graph (ModelGraph): Its units.
        policy (Policy): Widths to take.
        channels (Mapping | None): Kept channels by unit. Defaults to the first
            ones, which is right for a model whose channels were sorted.
        inplace (bool): Shrink ``model`` itself. Defaults to False: a copy.

    Returns:
        nn.Module: A plain model of the same classes with smaller layers.

    Raises:
        PolicyError: The policy names a unit the model does not have, or a width or
            channel that does not fit it.
    """
    check_policy(graph, policy, channels)
    model = model if inplace else copy_of(model)
    selection = Selection(model, graph)
    kept = {**selection.of_policy(policy), **(channels or {})}
    for module, values in list(selection.values(kept)):
        overwrite(module, values)
    return model


def check_policy(
    graph: ModelGraph, policy: Policy,
    channels: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Raise :class:`PolicyError` if a width or channel does not fit the model."""
    dense = {u.name: u.width for u in graph.units}
    channels = channels or {}
    for name in (*policy.widths, *channels):
        if name not in dense:
            raise PolicyError(
                f'The policy names the unit {name!r}, which this model does not have. '
                'Use a policy searched on this model.')
    for name, width in policy.widths.items():
        if not 1 <= width <= dense[name]:
            raise PolicyError(
                f'Width {width} of unit {name!r} is not between 1 and {dense[name]}.')
    for name, kept in channels.items():
        if max(kept) >= dense[name]:
            raise PolicyError(
                f'The policy keeps channel {max(kept)} of unit {name!r}, which has '
                f'{dense[name]} channels. Use a policy searched on this model.')
