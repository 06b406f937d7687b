"""Convolutions that standardise their weight, output by output (Qiao et al., 2019).

Each output's weights are centred and scaled by their own mean and deviation. So a layer
that reads fewer channels computes these anew, over what remains, as a layer norm does:
removing inputs is not zeroing them, but zeroing them in a weight that was standardised
without them. What the layer multiplies by is no parameter, and any other number put in
the parameter's place is standardised, too: nobody repairs or quantises such a layer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from ..arithmetic.slices import Kept, put, take
from .conv import ConvRule


class StandardisedConvRule(ConvRule):
    """A convolution that multiplies by its weight standardised.

    Args:
        standardise (Callable): From the layer and ``(out, in per group, *window)`` to
            what it multiplies by. Rows depend on themselves alone.
    """

    def __init__(self, standardise: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.standardise = standardise

    def weight(self, module: nn.Module) -> Tensor | None:
        """None, as it is computed."""
        return None

    def resizable(self, module: nn.Module) -> bool:
        """It is, from the parameter that is sliced."""
        return 'weight' in module._parameters

    def mask(self, module: nn.Module, gone: np.ndarray) -> Callable[..., Tensor]:
        """The dense layer with a weight that was standardised without the removed."""
        return partial(self._masked, module, gone)

    def columns(self, module: nn.Module, gone: np.ndarray) -> Kept:
        """Columns of a row that stay when inputs are removed, None for all of them.

        Where groups leave as a whole, no row that stays has lost any.
        """
        return self.window(module, np.setdiff1d(np.arange(module.in_channels), gone))

    def standardised_on(self, module: nn.Module, columns: Kept) -> Tensor:
        """What the layer multiplies by when it has these columns; zeros elsewhere."""
        weight = module.weight.detach()
        found = torch.zeros_like(weight)
        put(found, 1, columns, self.standardise(module, take(weight, 1, columns)))
        return found

    def _masked(self, module: nn.Module, gone: np.ndarray, x: Tensor) -> Tensor:
        index = torch.as_tensor(gone, device=x.device)
        weight = self.standardised_on(module, self.columns(module, gone))
        return module._conv_forward(
            x.index_fill(self.channel_axis(module, x), index, 0.0), weight,
            module.bias)
