"""Running exported files."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, Protocol

import numpy as np
import onnx_ir as ir

from ..errors import ExportError
from .editing import part_of, to_bytes

FUSED = r'(_token_\d+|_nchwc)$'
"""What ONNX Runtime appends to the name of a node or of its output when it fuses."""


class Kernel(NamedTuple):
    """A piece of work of a runtime.

    Args:
        names (tuple[str, ...]): Nodes of the file that it computes, or their outputs.
        kind (str): Its type in the runtime.
    """

    names: tuple[str, ...]
    kind: str


class Runtime(Protocol):
    """Runs a file: arrays in, arrays out, both in the order of the file."""

    name: str

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """Outputs for one set of inputs."""
        ...

    def kernel_times(self) -> dict[Kernel, list[float]]:
        """Milliseconds of every run by kernel; of a runtime made with ``profile``."""
        ...


class OnnxRuntime:
    """ONNX Runtime.

    Args:
        model (str | os.PathLike | bytes): A file, or a serialised model.
        threads (int | None): Threads within an operator. Defaults to all cores.
        providers (Sequence[str]): Execution providers, the preferred one first.
        profile (bool): Time operators; see :meth:`kernel_times`. Defaults to False.
        integers (bool): Compute in integers what a quantised file says is in integers.
            If not, every operator is computed as ONNX defines it, the same on every
            CPU: those without VNNI cut sums of two products off at 16 bits. Defaults
            to True.
    """

    name = 'onnxruntime'

    def __init__(
        self,
        model: str | os.PathLike | bytes,
        threads: int | None = None,
        providers: Sequence[str] = ('CPUExecutionProvider',),
        profile: bool = False,
        integers: bool = True,
    ) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ExportError(
                'ONNX Runtime is not installed; run: pip install onnxruntime'
            ) from error
        _check_file(model)
        unknown = set(providers) - set(onnxruntime.get_available_providers())
        if unknown:
            raise ExportError(
                f'This ONNX Runtime has no {", ".join(sorted(unknown))}; it has '
                f'{", ".join(onnxruntime.get_available_providers())}.')
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        if not integers:
            options.graph_optimization_level = \
                onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        if profile:
            self._folder = tempfile.TemporaryDirectory()
            options.enable_profiling = True
            options.profile_file_prefix = f'{self._folder.name}/profile'
        source = model if isinstance(model, bytes) else os.fspath(model)
        with _opening(model):
            self.session = onnxruntime.InferenceSession(
                source, options, providers=list(providers))
        self._names = [x.name for x in self.session.get_inputs()]

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """Outputs for one set of inputs."""
        return self.session.run(None, dict(zip(self._names, inputs)))

    def kernel_times(self) -> dict[Kernel, list[float]]:
        """Stop profiling; milliseconds of every run by kernel."""
        times: dict[Kernel, list[float]] = {}
        with self._folder:
            events = json.loads(Path(self.session.end_profiling()).read_text())
        for event in events:
            if event.get('cat') == 'Node' and event['name'].endswith('_kernel_time'):
                name = re.sub(FUSED, '', event['name'].removesuffix('_kernel_time'))
                key = Kernel((name,), event['args']['op_name'])
                times.setdefault(key, []).append(event['dur'] / 1000)
        return times


def probe(model: ir.Model, values: Sequence[ir.Value]) -> OnnxRuntime:
    """A runtime that returns some tensors of a network instead of its outputs.

    What it returns does not depend on the CPU but for rounding in float.
    """
    part = part_of(model, values, model.graph.inputs)
    return OnnxRuntime(to_bytes(part), integers=False)


class OpenVinoRuntime:
    """OpenVINO on the CPU.

    Args:
        model (str | os.PathLike | bytes): A file, or a serialised model.
        threads (int | None): Threads. Defaults to what OpenVINO chooses.
        profile (bool): Time kernels; see :meth:`kernel_times`. Defaults to False.
    """

    name = 'openvino'

    def __init__(
        self, model: str | os.PathLike | bytes, threads: int | None = None,
        profile: bool = False,
    ) -> None:
        openvino = _import_openvino()
        _check_file(model)
        core = openvino.Core()
        options = {'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': 'f32'}
        if threads:
            options['INFERENCE_NUM_THREADS'] = str(threads)
        if profile:
            options['PERF_COUNT'] = 'YES'
        source = model if isinstance(model, bytes) else os.fspath(model)
        with _opening(model):
            self.compiled = core.compile_model(core.read_model(source), 'CPU', options)
        self._request = self.compiled.create_infer_request()
        self._profile = profile
        self._times: dict[tuple[str, str], list[float]] = {}

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """Outputs for one set of inputs."""
        results = self._request.infer(list(inputs))
        if self._profile:
            for found in self._request.profiling_info:
                if found.status == found.Status.EXECUTED:
                    times = self._times.setdefault(
                        (found.node_name, found.node_type), [])
                    times.append(1000 * found.real_time.total_seconds())
        # Arrays of OpenVINO are views that the next call overwrites.
        return [results[i].copy() for i in range(len(self.compiled.outputs))]

    def kernel_times(self) -> dict[Kernel, list[float]]:
        """Milliseconds of every run so far by kernel."""
        origins = {
            node.get_friendly_name(): node.get_rt_info()['originalLayersNames'].value
            for node in self.compiled.get_runtime_model().get_ops()}
        return {Kernel(tuple((origins.get(name) or name).split(',')), kind): found
                for (name, kind), found in self._times.items()}


def _import_openvino() -> ModuleType:
    """OpenVINO without its telemetry.

    Its import would fork this process to send statistics, which disturbs timing and
    signals; without the package that sends them it has a stub.
    """
    sys.modules.setdefault('openvino_telemetry', None)
    try:
        import openvino
    except ImportError as error:
        raise ExportError(
            'OpenVINO is not installed; run: pip install openvino') from error
    return openvino


RUNTIMES = {cls.name: cls for cls in (OnnxRuntime, OpenVinoRuntime)}
"""Runtimes by the name that ``--backend`` takes."""


def load_runtime(
    backend: str, model: str | os.PathLike | bytes, threads: int | None = None,
    profile: bool = False,
) -> Runtime:
    """A runtime by name.

    Args:
        backend (str): Its name.
        model (str | os.PathLike | bytes): A file, or a serialised model.
        threads (int | None): Its threads. Defaults to its own choice.
        profile (bool): Time kernels. Defaults to False.

    Raises:
        ExportError: Unknown, not installed, or there is no such file.
    """
    if backend not in RUNTIMES:
        raise ExportError(
            f'Unknown backend {backend!r}; known: {", ".join(RUNTIMES)}.')
    return RUNTIMES[backend](model, threads=threads, profile=profile)


@contextmanager
def _opening(model: str | os.PathLike | bytes) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # runtimes have many of their own
        what = 'The network' if isinstance(model, bytes) else model
        raise ExportError(
            f'{what} cannot be opened: {" ".join(str(error).split())}') from error


def _check_file(model: str | os.PathLike | bytes) -> None:
    if not isinstance(model, bytes) and not Path(model).is_file():
        raise ExportError(
            f'There is no file {str(model)!r}; make it with tools/export.py.')
