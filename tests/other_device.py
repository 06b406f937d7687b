"""A device that a CPU-only torch does not have, for code that has to stay on one.

A tensor of it computes on the CPU what a GPU would, gradients included, and raises
where a GPU would: where it meets a tensor of the CPU, unless that is a number, and
where NumPy is to see it. It calls itself ``meta``, the one other device that autograd
knows everywhere.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_map_only

THERE = torch.device('meta')


class There(Tensor):
    """A tensor of the other device; ``here`` holds its values."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> There:
        self = Tensor._make_wrapper_subclass(
            cls, here.shape, strides=here.stride(), dtype=here.dtype, device=THERE,
            storage_offset=here.storage_offset(), requires_grad=here.requires_grad)
        self.here = here.detach()
        return self

    def __repr__(self) -> str:
        return f'There({self.here})'

    def tolist(self) -> Any:
        """See :meth:`torch.Tensor.tolist`, which refuses subclasses."""
        return self.here.tolist()

    def data_ptr(self) -> int:
        """See :meth:`torch.Tensor.data_ptr`; tensors on ``meta`` have none."""
        return self.here.data_ptr()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None) -> Any:
        return computed(func, args, kwargs or {})


class Other(TorchDispatchMode):
    """Within it, tensors can be made on the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        return computed(func, args, kwargs or {})


def computed(func, args: tuple, kwargs: dict) -> Any:
    """The result of an operator, on the device of its tensors."""
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
    there = [x for x in tensors if isinstance(x, There)]
    device = kwargs.get('device')
    if there and device is None:
        for x in tensors:
            # Numbers may be anywhere, and so may indices and what is copied.
            if not isinstance(x, There) and x.dim() and func.overloadpacket not in (
                    torch.ops.aten.index, torch.ops.aten.index_put_,
                    torch.ops.aten.copy_):
                raise RuntimeError(
                    f'{func}: a tensor of the CPU meets one of another device')
    if device is not None:
        kwargs = {**kwargs, 'device': torch.device('cpu')}
    inner = tree_map_only(There, lambda x: x.here, (args, kwargs))
    found = func(*inner[0], **inner[1])
    if func._schema.is_mutable and args and found is inner[0][0]:
        return args[0]
    stays = bool(there) if device is None else torch.device(device) == THERE
    if func is torch.ops.aten._local_scalar_dense.default or not stays:
        return found
    return tree_map(lambda x: There(x) if isinstance(x, Tensor) else x, found)


def moved(model: nn.Module) -> nn.Module:
    """The model with its parameters and buffers on the device, in place."""
    for module in model.modules():
        for name, value in module._parameters.items():
            if value is not None:
                module._parameters[name] = nn.Parameter(
                    There(value.detach()), value.requires_grad)
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = There(value)
    return model
