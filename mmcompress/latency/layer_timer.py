"""How long one layer takes on the device at hand."""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
import time
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from ..export.export import OPSET
from ..export.onnx_graph import OnnxGraph
from ..export.quantise.placement import place
from ..export.quantise.plan import LayerPlan, Point, WeightPlan
from ..export.quantise.qdq import write_placement
from ..export.runtimes import OnnxRuntime, load_runtime
from ..files import write_text

WARM_UP, REPEATS = 3, 15
SECONDS = 0.05
"""After this long a measurement stops early, with at least 5 repeats."""

OUTSIDE = {'ReorderInput', 'ReorderOutput', 'Transpose', 'QuantizeLinear',
           'DequantizeLinear', 'Gather'}
"""Operators at the border of a lone layer, which are not there inside a network."""


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
        return json.loads(self.path.read_text()) if self.path.is_file() else {}

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
            layer_proto(shape, out, into, groups, integer)))

    def network(self, name: str, data: bytes, inputs: list[np.ndarray]) -> float:
        """Milliseconds of a whole network.

        Args:
            name (str): Identifies the network.
            data (bytes): Its file.
            inputs (list[np.ndarray]): Its inputs.
        """
        return self._remember(f'network {name}', lambda: median_ms(
            load_runtime(self.backend, data, self.threads), inputs))

    def _remember(self, key: str, measure) -> float:
        if key not in self._known:
            self._known[key] = measure()
            self.measured += 1
            if self.measured % 50 == 0:
                self.save()
        return self._known[key]

    def _measure(self, proto) -> float:
        shape = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
        image = np.random.default_rng(0).random(shape, dtype=np.float32)
        data = proto.SerializeToString()
        if self.backend != OnnxRuntime.name:
            return median_ms(load_runtime(self.backend, data, self.threads), [image])
        with tempfile.TemporaryDirectory() as folder:
            runtime = OnnxRuntime(data, self.threads, profile=f'{folder}/profile')
            start, runs = time.perf_counter(), 0
            while runs < WARM_UP + 5 or (
                    runs < WARM_UP + REPEATS and
                    time.perf_counter() - start < SECONDS):
                runtime(image)
                runs += 1
            times = kernel_times(runtime.end_profile())
        return sum(
            statistics.median(t[WARM_UP:]) for (name, kind), t in times.items()
            if kind not in OUTSIDE and not name.startswith('end'))


def kernel_times(path: Path) -> dict[tuple[str, str], list[float]]:
    """Milliseconds of every run, by name and type of operator, of a profile."""
    times: dict[tuple[str, str], list[float]] = {}
    for event in json.loads(path.read_text()):
        if event.get('cat') == 'Node' and event['name'].endswith('_kernel_time'):
            name = event['name'].removesuffix('_kernel_time')
            key = name, event['args']['op_name']
            times.setdefault(key, []).append(event['dur'] / 1000)
    return times


def median_ms(runtime, inputs: list[np.ndarray], repeats: int = 30) -> float:
    """Median time of a call after a warm-up."""
    for _ in range(WARM_UP):
        runtime(*inputs)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        runtime(*inputs)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def layer_proto(shape: LayerShape, out: int, into: int, groups: int, integer: bool):
    """A model of one layer with random weights, and what follows it."""
    rng = np.random.default_rng(0)
    linear = shape.kind == 'linear'
    size = (out, into) if linear else (
        (into * groups, out // groups, *shape.kernel)
        if shape.kind == 'conv_transpose' else (out, into, *shape.kernel))
    weight = (rng.standard_normal(size) / np.sqrt(into)).astype(np.float32)
    bias = np.zeros(out, np.float32)
    inputs = ['x', 'model.layer.weight', 'bias']
    if linear:
        first = helper.make_node('Gemm', inputs, ['y'], 'layer', transB=1)
        image = [shape.size[0], into]
    else:
        kind = 'ConvTranspose' if shape.kind == 'conv_transpose' else 'Conv'
        first = helper.make_node(
            kind, inputs, ['y'], 'layer', kernel_shape=shape.kernel,
            strides=shape.stride, pads=[*shape.padding, *shape.padding],
            dilations=shape.dilation, group=groups)
        image = [1, into * groups, *shape.size]
    nodes, last = [first], 'y'
    if shape.activation == 'SiLU':
        nodes += [helper.make_node('Sigmoid', ['y'], ['s'], 'sigmoid'),
                  helper.make_node('Mul', ['y', 's'], ['z'], 'mul')]
        last = 'z'
    if integer:  # its reader is in 8 bits
        nodes.append(helper.make_node(
            'Conv', [last, 'model.end.weight'], ['end'], 'end') if not linear else
            helper.make_node('Gemm', [last, 'model.end.weight'], ['end'], 'end'))
    graph = helper.make_graph(
        nodes, 'layer',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, image)],
        [helper.make_empty_tensor_value_info('end' if integer else last)],
        [numpy_helper.from_array(weight, 'model.layer.weight'),
         numpy_helper.from_array(bias, 'bias')])
    proto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid('', OPSET)], ir_version=10)
    if not integer:
        return proto
    end = np.ones((1, out, 1, 1) if not linear else (out, 1), np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(end, 'model.end.weight'))
    scale = np.abs(weight).max() / 127
    integers = np.round(weight / scale).astype(np.int8)
    axis = 1 if shape.kind == 'conv_transpose' else 0
    plan = {
        'layer': LayerPlan(WeightPlan(
            integers, np.full(out, scale, np.float32), 8, axis, weight),
            Point(1 / 255, 0)),
        'end': LayerPlan(None, Point(1 / 32, 128))}
    editable = OnnxGraph(proto)
    placement = place(editable, plan)
    for name in placement.unknown():
        placement.points[name] = Point(1 / 32, 128)
    write_placement(editable, placement)
    return proto
