"""Comparing the speed of exported files."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier

import numpy as np
import onnx_ir as ir

from ..errors import ExportError
from .editing import is_constant
from .metadata import load_onnx
from .passes.layers import layer_of
from .runtimes import OnnxRuntime, Runtime, load_runtime

ROUNDS = 3
"""How often each file has its turn, unless more is asked for."""


@dataclass(frozen=True)
class Timing:
    """How long calls of a file took.

    Args:
        path (Path): The file.
        milliseconds (tuple[float, ...]): Of every call.
        streams (int): Calls that ran at a time. Defaults to 1.
        backend (str): The runtime. Defaults to 'onnxruntime'.
        turns (tuple[float, ...]): Median of every turn.
    """

    path: Path
    milliseconds: tuple[float, ...]
    streams: int = 1
    backend: str = OnnxRuntime.name
    turns: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        """Median, in ms."""
        return statistics.median(self.milliseconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile, in ms."""
        low, _, high = statistics.quantiles(self.milliseconds, n=4)
        return low, high

    def share_of(self, other: Timing) -> float:
        """What it takes of the time of another: the median of all turns.

        The two are compared turn by turn, as a busy machine is now slow, now fast.
        """
        return statistics.median(a / b for a, b in zip(self.turns, other.turns))

    @property
    def per_second(self) -> float:
        """Calls per second of all streams together."""
        return 1000 * self.streams / self.median


@dataclass(frozen=True)
class Blame:
    """A layer, or a kind of operator, that is slower than in the baseline.

    Args:
        name (str): Which.
        before, after (float): Its time in the baseline and in the file, in ms.
    """

    name: str
    before: float
    after: float


def random_inputs(path: str | os.PathLike, batch: int = 1) -> list[np.ndarray]:
    """Uniformly random inputs of a file.

    Args:
        path (str | os.PathLike): The file.
        batch (int): Length of an axis that may have any.
    """
    rng = np.random.default_rng(0)
    graph = load_onnx(path).graph
    return [rng.random([n if isinstance(n, int) else batch for n in value.shape],
                       dtype=np.float32)
            for value in graph.inputs if not is_constant(value)]


def time_files(
    paths: Sequence[str | os.PathLike],
    backends: str | Sequence[str] = OnnxRuntime.name,
    threads: int | None = None, repeats: int = 100, warm_up: int = 20,
    streams: int = 1, progress: Callable[[int, int], object] = lambda done, total: None,
    rounds: int = ROUNDS,
) -> list[Timing]:
    """Time files in turns, so that what disturbs the machine disturbs them all.

    The runtimes of one file exist at a time: the threads of an idle one wait in a busy
    loop.

    Args:
        paths (Sequence): The files.
        backends (str | Sequence[str]): Name of the runtime, or of several: each file
            has its turn in every one. Defaults to 'onnxruntime'.
        threads (int | None): Their threads.
        repeats (int): Timed calls of each file in every stream. Defaults to 100.
        warm_up (int): Calls before, in every turn. Defaults to 20.
        streams (int): Callers at a time, each with a runtime of its own: one measures
            how long an image takes, one for every core how many images a machine
            does. Defaults to 1.
        progress (Callable): Told how many turns of how many are done.
        rounds (int): Turns of each file. More of them compare files more fairly on a
            machine that is busy, and take longer. Defaults to :data:`ROUNDS`.

    Returns:
        list[Timing]: Of all files in the first runtime, then in the next one.

    Raises:
        ExportError: Too few streams or calls, no such file or backend.
    """
    if streams < 1 or rounds < 1 or repeats < rounds or warm_up < 0:
        raise ExportError(
            f'Cannot time {repeats} calls after {warm_up} in {streams} streams: take '
            f'at least {max(1, rounds)} calls and one stream.')
    names = [backends] if isinstance(backends, str) else backends
    runs = [(backend, path) for backend in names for path in paths]
    inputs = {path: random_inputs(path) for path in paths}
    times: list[list[float]] = [[] for _ in runs]
    turns: list[list[float]] = [[] for _ in runs]
    for turn in range(rounds):
        calls = repeats * (turn + 1) // rounds - repeats * turn // rounds
        for number, (backend, path) in enumerate(runs):
            runtimes = [load_runtime(backend, path, threads) for _ in range(streams)]
            warm = Barrier(streams)
            with ThreadPoolExecutor(streams) as callers:
                streamed = [
                    callers.submit(
                        call_times, runtime, inputs[path], calls, warm_up, warm.wait)
                    for runtime in runtimes]
            found = [ms for stream in streamed for ms in stream.result()]
            times[number] += found
            turns[number].append(statistics.median(found))
            del runtimes
            progress(turn * len(runs) + number + 1, rounds * len(runs))
    return [Timing(Path(path), tuple(found), streams, backend, tuple(medians))
            for (backend, path), found, medians in zip(runs, times, turns)]


def call_times(
    runtime: Runtime, arrays: Sequence[np.ndarray], calls: int, warm_up: int,
    ready: Callable[[], object] = lambda: None,
) -> list[float]:
    """Milliseconds of each call; ``ready`` is called between warm-up and calls."""
    for _ in range(warm_up):
        runtime(*arrays)
    ready()
    found = []
    for _ in range(calls):
        start = time.perf_counter()
        runtime(*arrays)
        found.append(1000 * (time.perf_counter() - start))
    return found


def layer_times(
    path: str | os.PathLike, threads: int | None = None, repeats: int = 30,
    backend: str = OnnxRuntime.name,
) -> tuple[dict[str, float], dict[str, float]]:
    """Milliseconds by layer, and by kind of operator for what is not a layer.

    Measured by the runtime's profiler. What it fuses with a layer is part of it.

    Args:
        path (str | os.PathLike): The file.
        threads (int | None): Threads of the runtime.
        repeats (int): Calls; the median counts.
        backend (str): Name of the runtime. Defaults to 'onnxruntime'.
    """
    layers = node_layers(load_onnx(path).graph)
    inputs = random_inputs(path)
    runtime = load_runtime(backend, path, threads, profile=True)
    for _ in range(repeats):
        runtime(*inputs)
    by_layer: dict[str, float] = {}
    by_kind: dict[str, float] = {}
    for kernel, found in runtime.kernel_times().items():
        owner = next((layers[name] for name in kernel.names if name in layers), None)
        target, key = (by_kind, kernel.kind) if owner is None else (by_layer, owner)
        target[key] = target.get(key, 0.0) + statistics.median(found)
    return by_layer, by_kind


def node_layers(graph: ir.Graph) -> dict[str, str]:
    """From the names of nodes, and of their outputs, to the layers that they are."""
    return {name: layer for node in graph if (layer := layer_of(node)) is not None
            for name in (node.name, node.outputs[0].name)}


def blame(
    baseline: str | os.PathLike, path: str | os.PathLike, threads: int | None = None,
    worst: int = 5, backend: str = OnnxRuntime.name,
) -> list[Blame]:
    """What takes longer in a file than in the baseline, the worst first.

    Args:
        baseline, path (str | os.PathLike): Files.
        threads (int | None): Threads of the runtime.
        worst (int): How many to return.
        backend (str): Name of the runtime. Defaults to 'onnxruntime'.
    """
    before, after = (layer_times(file, threads, backend=backend)
                     for file in (baseline, path))
    slower = [
        Blame(name, old.get(name, 0.0), ms)
        for old, new in zip(before, after) for name, ms in new.items()
        if ms > old.get(name, 0.0)]
    return sorted(slower, key=lambda b: b.before - b.after)[:worst]
