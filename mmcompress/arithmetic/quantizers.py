"""Fake quantisers: values on a grid of integers times a scale, still in float.

Plain tensor operations, not aten's fake-quantise kernels, for two reasons. They
divide by the scale as ONNX Runtime does (the kernels multiply by its reciprocal, so
now and then a value next to a tie lands on the other integer), hence the integers
are equal by construction. And on a CPU they are several times faster, forward and
backward, as the kernels are not vectorised there (``benchmarks/quantisation.py``).
"""

from __future__ import annotations

import copy
import warnings
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import CompressionError
from ..policy import FLOAT

EPSILON = 1e-8
"""Smallest step; a learned one may not reach zero."""

Bound = float | Tensor


def fake_quantise(x: Tensor, scale: Tensor, low: Bound, high: Bound) -> Tensor:
    """Round ``x`` to the nearest multiple of ``scale`` (ties to even), and clip.

    Args:
        x (Tensor): Real values.
        scale (Tensor): Step size, broadcastable to ``x``.
        low, high: Smallest and largest integer, the zero point subtracted.

    Returns:
        Tensor: As ``x``.
    """
    return torch.div(x, scale).round_().clamp_(low, high).mul_(scale)


class FakeQuantise(torch.autograd.Function):
    """:func:`fake_quantise` with gradients for the values, scale and zero point.

    With ``v = x / s``, ``q = clamp(round(v), low, high)`` and ``y = q s`` (LSQ, Esser
    et al., ICLR 2020, eq. 3 and 5; LSQ+, Bhalgat et al., CVPRW 2020, for the zero
    point), inside the range ``dy/dx = 1``, ``dy/ds = q - v``, ``dy/dz = 0``; outside
    ``dy/dx = 0``, ``dy/ds = q`` (which is ``low`` or ``high``) and ``dy/dz = -s``.
    The last two are multiplied by ``factor``.
    """

    @staticmethod
    def forward(ctx, x, scale, zero_point, low, high, factor):
        ctx.save_for_backward(x, scale)
        ctx.bounds, ctx.factor = (low, high), factor
        return fake_quantise(x, scale, low, high)

    @staticmethod
    def backward(ctx, grad):
        x, scale = ctx.saved_tensors
        low, high = ctx.bounds
        value = torch.div(x, scale)
        rounded = value.round()
        inside = (rounded >= low) & (rounded <= high)
        grad_x = grad * inside
        grad_scale = grad_zero = None
        if ctx.needs_input_grad[1]:
            slope = rounded.clamp_(low, high).sub_(value.mul_(inside))
            grad_scale = slope.mul_(grad).sum_to_size(scale.shape) * ctx.factor
        if ctx.needs_input_grad[2]:
            outside = (grad - grad_x).sum_to_size(scale.shape)
            grad_zero = -outside * scale * ctx.factor
        return (grad_x, grad_scale, grad_zero) + (None,) * 3


class Quantizer(nn.Module, ABC):
    """A scale (and zero point) for every bit width; one of them is in use.

    At 32 bits nothing happens and nothing is in the state dict. Otherwise ``scale``
    and ``zero_point`` are parameters, learned by training (LSQ, LSQ+). Those of the
    other bit widths are kept in ``memory``, which is not in the state dict.

    Attributes:
        bits (int): Bit width in use; 32 means float.
        scale (nn.Parameter | None): ``(channels,)``, None at 32 bits.
        zero_point (nn.Parameter | None): ``(1,)``, real-valued: the integer is its
            rounded value clamped to the range. None for weights, whose is 0.
        calibrated (bool): Whether ``scale`` was measured, loaded or assigned.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bits = FLOAT
        self.calibrated = False
        self.memory: dict[int, dict[str, Tensor]] = {}
        self.register_parameter('scale', None)
        self.register_parameter('zero_point', None)

    @property
    def is_float(self) -> bool:
        """Whether the values pass unchanged."""
        return self.bits >= FLOAT

    @property
    def step(self) -> Tensor:
        """The positive step size: an optimiser may carry ``scale`` across zero."""
        return self.scale.abs().clamp_min(EPSILON)

    @property
    @abstractmethod
    def quant_min(self) -> int:
        """Smallest integer."""

    @property
    @abstractmethod
    def quant_max(self) -> int:
        """Largest integer."""

    # -- bit widths ----------------------------------------------------------
    def switch(self, bits: int, channels: int = 1) -> None:
        """Use another bit width, with what is remembered for it.

        Args:
            bits (int): 2 to 8, or 32 for float.
            channels (int): Number of scales. Defaults to 1.
        """
        if not (2 <= bits <= 8 or bits == FLOAT):
            raise CompressionError(
                f'{bits} bits are not supported; choose 2 to 8, or {FLOAT} for float.')
        if self.calibrated and not self.is_float:
            self.memory[self.bits] = self._values(copied=True)
        self.bits = bits
        self.calibrated = bits in self.memory
        if self.is_float:
            self.scale = self.zero_point = None
            return
        if self.scale is None:
            self._allocate(channels)
        if self.calibrated:
            self._assign(self.memory[bits])

    def assign(
        self, scale: Tensor | float, zero_point: Tensor | float | None = None
    ) -> None:
        """Set the values of the bit width in use."""
        assert not self.is_float, 'switch to the bit width first'
        values = dict(scale=torch.as_tensor(scale))
        if self.zero_point is not None:
            values['zero_point'] = torch.as_tensor(zero_point)
        self._assign(values)
        self.calibrated = True

    def _allocate(self, channels: int) -> None:
        self.scale = nn.Parameter(torch.ones(channels))

    @torch.no_grad()
    def _assign(self, values: dict[str, Tensor]) -> None:
        # In place: an optimiser may hold the parameters.
        for name, value in values.items():
            own = getattr(self, name)
            own.copy_(value.to(own).reshape(own.shape))

    def _values(self, copied: bool = False) -> dict[str, Tensor]:
        return {n: p.detach().clone() if copied else p
                for n, p in self._parameters.items() if p is not None}

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        if not self.is_float and f'{prefix}scale' in state_dict:
            self.calibrated = True

    # -- arithmetic ----------------------------------------------------------
    def bounds(self) -> tuple[Bound, Bound]:
        """Smallest and largest integer, the zero point subtracted."""
        return self.quant_min, self.quant_max

    def _run(self, x: Tensor, scale: Tensor, count: int) -> Tensor:
        if not self.calibrated and torch.jit.is_tracing():
            # mmengine's counter of FLOPs traces networks that have no weights yet.
            warnings.warn('A quantised layer without scales is traced in float.',
                          stacklevel=2)
            return x
        if not self.calibrated:
            raise CompressionError(
                f'A quantised layer has no scale at {self.bits} bits: the checkpoint '
                'has none. Calibrate it (tools/train.py does, before the first '
                'iteration), or load the checkpoint beside the policy.')
        low, high = self.bounds()
        if not torch.is_grad_enabled():
            return fake_quantise(x, scale, low, high)
        # LSQ, section 2.2: the step moves as much as a weight does, relatively.
        factor = 1.0 / float(count * max(self.quant_max, 1)) ** 0.5
        return FakeQuantise.apply(
            x, scale, self.zero_point, low, high, factor)

    def _integers(self, x: Tensor, scale: Tensor, zero: Bound) -> Tensor:
        low, high = self.bounds()
        kind = torch.int8 if self.quant_min < 0 else torch.uint8
        return (torch.div(x, scale).round_().clamp_(low, high) + zero).to(kind)

    def extra_repr(self) -> str:
        """Show the bits."""
        return f'bits={self.bits}'


class WeightQuantizer(Quantizer):
    """Symmetric, one scale per output channel, narrow range.

    Integers are ``-(2^(b-1) - 1) .. 2^(b-1) - 1``. The range is narrow so that it is
    symmetric: scaling a channel of the weight by any factor, also a negative one,
    scales the step by its absolute value and negates the integers or leaves them.
    So folding a batch norm into the layer, ``w' = w gamma / sigma``, commutes with
    quantisation: training and search keep the batch norm, export folds it, and both
    compute the same.

    Args:
        axis (int): Axis of the output channels in the weight. Defaults to 0.
    """

    def __init__(self, axis: int = 0) -> None:
        super().__init__()
        self.axis = axis

    @property
    def quant_min(self) -> int:
        """Smallest integer."""
        return -self.quant_max

    @property
    def quant_max(self) -> int:
        """Largest integer."""
        return 2 ** (self.bits - 1) - 1

    def forward(self, weight: Tensor) -> Tensor:
        """Fake-quantise a weight; the result has its shape."""
        if self.is_float:
            return weight
        per_channel = weight.numel() // weight.shape[self.axis]
        return self._run(weight, self.per_channel(weight), per_channel)

    def integers(self, weight: Tensor) -> Tensor:
        """The integers of a weight, int8."""
        return self._integers(weight, self.per_channel(weight), 0)

    def per_channel(self, weight: Tensor) -> Tensor:
        """The step in a shape that broadcasts to ``weight``."""
        shape = [1] * weight.dim()
        shape[self.axis] = -1
        return self.step.reshape(shape)

    def narrowed(self, kept: np.ndarray) -> WeightQuantizer:
        """A quantiser with the scales of some output channels."""
        index = torch.as_tensor(kept)

        def rows(parameter: Tensor) -> Tensor:
            return parameter.detach()[index.to(parameter.device)]

        small = copy.copy(self)
        small.__dict__['_parameters'] = dict(self._parameters)
        small.scale = nn.Parameter(rows(self.scale), self.scale.requires_grad)
        small.memory = {bits: {n: rows(v) for n, v in values.items()}
                        for bits, values in self.memory.items()}
        return small


class ActivationQuantizer(Quantizer):
    """One scale and zero point for the whole tensor, unsigned integers.

    Integers are ``0 .. 2^b - 1``. A symmetric range is one whose zero point stays
    where it is: in the middle, or at 0 for values that are never negative.

    Args:
        symmetric (bool): Keep the zero point while training. Defaults to False.
    """

    def __init__(self, symmetric: bool = False) -> None:
        super().__init__()
        self.symmetric = symmetric

    @property
    def quant_min(self) -> int:
        """Smallest integer."""
        return 0

    @property
    def quant_max(self) -> int:
        """Largest integer."""
        return 2 ** self.bits - 1

    def _allocate(self, channels: int) -> None:
        super()._allocate(1)
        self.zero_point = nn.Parameter(torch.zeros(1), not self.symmetric)

    def rounded_zero_point(self) -> Tensor:
        """The zero point as an integer within the range, ``(1,)``."""
        return self.zero_point.detach().round().clamp(self.quant_min, self.quant_max)

    def bounds(self) -> tuple[Bound, Bound]:
        """Smallest and largest integer, the zero point subtracted."""
        zero = self.rounded_zero_point()
        if zero.device.type == 'cpu':  # elsewhere reading it would wait
            zero = zero.item()
        return self.quant_min - zero, self.quant_max - zero

    def forward(self, x: Tensor) -> Tensor:
        """Fake-quantise a tensor of any shape, the batch first."""
        if self.is_float:
            return x
        return self._run(x, self.step, max(1, x.numel() // max(1, len(x))))

    def integers(self, x: Tensor) -> Tensor:
        """The integers of a tensor, uint8."""
        return self._integers(x, self.step, self.rounded_zero_point())
