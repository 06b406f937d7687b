"""What every runtime has in integers, and how its files are to be written.

A runtime fuses a quantised layer with its neighbours only where the file has the
quantisers that it expects, so one placement of quantisers does not serve all. Another
runtime is another row of :data:`RULES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...errors import ExportError
from .plan import LayerPlan

MIDDLE = 128
"""Zero point of a symmetric activation in unsigned 8 bits."""


@dataclass(frozen=True)
class RuntimeRules:
    """What a runtime has in integers.

    Args:
        name (str): As ``--runtime`` takes it.
        computing (tuple[str, ...]): Operators between layers that it has in 8 bits.
            They get points of their own, whose ranges are measured. Where there are
            none, quantisers are at the inputs of layers alone: the file computes what
            the fake-quantised model computes, and an activation function fuses into
            the layer before it.
        clipping (tuple[str, ...]): Operators that fuse into the point behind them.
        signed (bool): Activations are INT8 and their zero point is 0. Defaults to
            False: UINT8 with any zero point.
        narrow (bool): Weights up to 4 bits are INT4, and activations may have fewer
            than 8 bits. If not, such weights are INT8. Defaults to False.
        integer_biases (bool): Biases are added to sums of integers, in their steps.
            Defaults to False: in float.
        weight_bits (int): Of layers that ``--int8`` puts into integers. Defaults to 7,
            whose products no CPU cuts off.
    """

    name: str
    computing: tuple[str, ...] = ()
    clipping: tuple[str, ...] = ()
    signed: bool = False
    narrow: bool = False
    integer_biases: bool = False
    weight_bits: int = 7

    def check(self, plan: Mapping[str, LayerPlan]) -> None:
        """Refuse layers that the runtime cannot compute as the model does.

        Raises:
            ExportError: Names the first of them, and says what to do.
        """
        for name, layer in plan.items():
            point = layer.input
            if self.signed and (layer.weight is None or point is None):
                raise ExportError(
                    f'{name} has only its weights or only its inputs in integers, '
                    f'which {self.name} does not compute; give it 8 bits for both, or '
                    'leave it in float.')
            if self.signed and (point.zero_point, point.bits) != (MIDDLE, 8):
                raise ExportError(
                    f'{name} reads activations of {point.bits} bits with the zero '
                    f'point {point.zero_point}; {self.name} takes symmetric ones of 8 '
                    f'bits. Put the network in float into 8 bits with --int8 '
                    f'--runtime {self.name}, or search and train it with '
                    "compression.quant=dict(symmetric='signed', ...).")


RULES = {rules.name: rules for rules in (
    RuntimeRules(
        'onnxruntime',
        computing=('Sigmoid', 'Mul', 'Add', 'LeakyRelu', 'AveragePool',
                   'GlobalAveragePool'),
        clipping=('Relu', 'Clip'), narrow=True, integer_biases=True),
    # A SiLU and an addition fuse into an 8-bit convolution, in float.
    RuntimeRules('openvino'),
    RuntimeRules('tensorrt', signed=True, weight_bits=8))}
"""By the name that ``--runtime`` takes."""

ONNX_RUNTIME = RULES['onnxruntime']
