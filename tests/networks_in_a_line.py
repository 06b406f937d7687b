"""Networks written in one line."""

from collections.abc import Callable

import torch
from torch import nn


class Net(nn.Module):
    """Modules and what they compute.

    Args:
        forward: From the network and the image to the output.
        modules: Children by name; parameters and buffers (tensors) likewise.
    """

    def __init__(self, forward: Callable, **modules) -> None:
        super().__init__()
        self._compute = forward
        torch.manual_seed(0)
        for name, module in modules.items():
            if isinstance(module, nn.Parameter) or not torch.is_tensor(module):
                setattr(self, name, module)
            else:
                self.register_buffer(name, module)

    def forward(self, x: torch.Tensor):
        """Map an image to whatever ``forward`` returns."""
        return self._compute(self, x)
