"""How long one layer takes on the device at hand."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ..errors import DataError
from ..exporter.editing import array, to_bytes
from ..exporter.passes.layers import LAYER
from ..exporter.quantise.placement import place
from ..exporter.quantise.plan import LayerPlan, QuantPoint, WeightPlan
from ..exporter.quantise.qdq import write_placement
from ..exporter.quantise.runtime_rules import RULES, RuntimeRules
from ..exporter.runtimes import Kernel, Runtime, load_runtime
from ..exporter.timing import call_times
from ..exporter.translate import OPSET
from ..files import read_json, write_text
from ..options import Positive, fits

WARM_UP, REPEATS = 3, 15
SECONDS = 0.05
"""After this long a measurement stops early, with at least 5 repeats."""

OUTSIDE = {'ReorderInput', 'ReorderOutput', 'Transpose', 'QuantizeLinear',
           'DequantizeLinear', 'Gather', 'Reorder', 'Reshape'}
"""Kernels at the border of a lone layer, which are not there inside a network."""


@dataclass(frozen=True)
class LayerShape:
    """One call of a layer, except its channels and bits.

    Args:
        kind (str): As in :class:`mmcompress.policy.Layer`.
        size (tuple[int, ...]): Height and width of the input; rows of a linear layer.
        kernel, stride, padding, dilation (tuple[int, int]): Of a convolution.
        activation (str): ``'SiLU'`` if one follows, which is an operator of its own;
            '' otherwise (a ReLU is computed with the layer).
    """

    kind: str
    size: tuple[int, ...]
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    activation: str = ''


def device_fingerprint(backend: str, threads: int) -> dict:
    """What measurements depend on besides the layer."""
    from importlib.metadata import version

    name = platform.processor() or platform.machine()
    if Path('/proc/cpuinfo').is_file():
        for line in Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                name = line.partition(':')[2].strip()
                break
    return dict(cpu=name, cores=os.cpu_count(), threads=threads, backend=backend,
                version=version(backend))


class LayerTimer:
    """Measures layers once and remembers the result on disk.

    Args:
        path (str | os.PathLike): JSON file of measurements, for several devices.
        backend (str): Name of the runtime. Defaults to 'onnxruntime'.
        threads (int): Threads of the runtime. Defaults to 1.
    """

    def __init__(
        self, path: str | os.PathLike, backend: str = 'onnxruntime', threads: int = 1
    ) -> None:
        self.path, self.backend, self.threads = Path(path), backend, threads
        self.device = json.dumps(device_fingerprint(backend, threads), sort_keys=True)
        self._known: dict[str, float] = self._read().get(self.device, {})
        self.measured = 0

    def _read(self) -> dict[str, dict[str, float]]:
        if not self.path.is_file():
            return {}
        try:
            data = read_json(self.path)
            if not fits(data, Mapping[str, Mapping[str, Positive]]):
                raise ValueError('it does not hold milliseconds by device and layer')
        except (OSError, ValueError) as error:
            raise DataError(
                f'{self.path} is damaged ({error}); delete it, and the layers are '
                'measured again.') from error
        return data

    def save(self) -> None:
        """Write what is known; measurements of other processes are kept."""
        data = self._read()
        data[self.device] = {**data.get(self.device, {}), **self._known}
        write_text(self.path, json.dumps(data, indent=1, sort_keys=True))

    def layer(
        self, shape: LayerShape, out: int, into: int, groups: int, integer: bool
    ) -> float:
        """Milliseconds of one layer.

        Args:
            shape (LayerShape): Everything but the channels.
            out (int): Output channels.
            into (int): Input channels per group.
            groups (int): Groups.
            integer (bool): In 8 bits instead of float.
        """
        key = json.dumps([*astuple(shape), out, into, groups, integer])
        return self._remember(key, lambda: self._measure(
            layer_model(shape, out, into, groups, integer, RULES[self.backend])))

    def network(self, name: str, data: bytes, inputs: list[np.ndarray]) -> float:
        """Milliseconds of a whole network.

        Args:
            name (str): Identifies the network.
            data (bytes): Its file.
            inputs (list[np.ndarray]): Its inputs.
        """
        return self._remember(f'network {name}', lambda: median_ms(
            load_runtime(self.backend, data, self.threads), inputs))

    def _remember(self, key: str, measure: Callable[[], float]) -> float:
        if key not in self._known:
            self._known[key] = measure()
            self.measured += 1
            if self.measured % 50 == 0:
                self.save()
        return self._known[key]

    def _measure(self, model: ir.Model) -> float:
        shape = tuple(model.graph.inputs[0].shape)
        image = np.random.default_rng(0).random(shape, dtype=np.float32)
        runtime = load_runtime(
            self.backend, to_bytes(model), self.threads, profile=True)
        start, runs = time.perf_counter(), 0
        while runs < WARM_UP + 5 or (
                runs < WARM_UP + REPEATS and time.perf_counter() - start < SECONDS):
            runtime(image)
            runs += 1
        return sum(
            statistics.median(t[WARM_UP:])
            for kernel, t in runtime.kernel_times().items() if not _outside(kernel))


def _outside(kernel: Kernel) -> bool:
    """Whether a kernel is not the layer's, nor that of what follows it."""
    return kernel.kind in OUTSIDE or all(
        name.startswith('end') or name.endswith('QuantizeLinear')
        for name in kernel.names)


def median_ms(runtime: Runtime, inputs: list[np.ndarray], repeats: int = 30) -> float:
    """Median time of a call after a warm-up."""
    return statistics.median(call_times(runtime, inputs, repeats, WARM_UP))


def layer_model(
    shape: LayerShape, out: int, into: int, groups: int, integer: bool,
    rules: RuntimeRules,
) -> ir.Model:
    """A model of one layer with random weights, and what follows it."""
    linear = shape.kind == 'linear'
    size = [shape.size[0], into] if linear else [1, into * groups, *shape.size]
    image = ir.val('x', ir.DataType.FLOAT, size)
    tape = ir.tape.Tape()

    def weighted(name: str, value: ir.Value, weights: dict[str, np.ndarray],
                 kind: str, **attributes: int | list[int]) -> ir.Value:
        return tape.op(
            kind, [value, *(tape.initializer(ir.tensor(x), f'{name}.{key}')
                            for key, x in weights.items())],
            attributes, name=name, metadata_props={LAYER: name})

    weights = dict(weight=_random_weight(shape, out, into, groups),
                   bias=np.zeros(out, np.float32))
    last = weighted('layer', image, weights, 'Gemm', transB=1) if linear else weighted(
        'layer', image, weights,
        'ConvTranspose' if shape.kind == 'conv_transpose' else 'Conv',
        kernel_shape=list(shape.kernel), strides=list(shape.stride),
        pads=[*shape.padding, *shape.padding], dilations=list(shape.dilation),
        group=groups)
    if shape.activation == 'SiLU':
        last = tape.op('Mul', [last, tape.op('Sigmoid', [last])])
    if integer:  # its reader is in 8 bits
        ones = np.ones((out, 1) if linear else (1, out, 1, 1), np.float32)
        last = weighted('end', last, dict(weight=ones), 'Gemm' if linear else 'Conv')
    model = ir.Model(ir.Graph(
        [image], [last], nodes=tape.nodes, initializers=tape.initializers,
        opset_imports={'': OPSET}, name='layer'), ir_version=10)
    return _in_integers(
        model, 1 if shape.kind == 'conv_transpose' else 0, rules) if integer else model


def _random_weight(
    shape: LayerShape, out: int, into: int, groups: int
) -> np.ndarray:
    size = dict(linear=(out, into), conv_transpose=(
        into * groups, out // groups, *shape.kernel)).get(
        shape.kind, (out, into, *shape.kernel))
    values = np.random.default_rng(0).standard_normal(size)
    return (values / np.sqrt(into)).astype(np.float32)


def _in_integers(model: ir.Model, axis: int, rules: RuntimeRules) -> ir.Model:
    """The model with its layer in 8 bits; the one behind reads 8 bits.

    Args:
        model (ir.Model): From :func:`layer_model`, in float.
        axis (int): Axis of the output channels in the layer's weight.
        rules (RuntimeRules): Of the runtime that it is timed in.
    """
    constants = model.graph.initializers
    weight, last = (array(constants[f'{name}.weight']) for name in ('layer', 'end'))
    last_axis = 0 if last.ndim == 4 else 1
    plan = {
        'layer': LayerPlan(_integers(weight, axis), QuantPoint(1 / 255, 0)),
        'end': LayerPlan(_integers(last, last_axis), QuantPoint(1 / 32, 128))}
    placement = place(model.graph, plan, rules=rules)
    for value in placement.unknown():
        placement.points[value] = QuantPoint(1 / 32, 128)
    return write_placement(model, placement)


def _integers(weight: np.ndarray, axis: int) -> WeightPlan:
    scale = np.abs(weight).max() / 127
    groups = weight.shape[axis]
    return WeightPlan(
        np.round(weight / scale).astype(np.int8),
        np.full(groups, scale, np.float32), 8, axis, weight)
