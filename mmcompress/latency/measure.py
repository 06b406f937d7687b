"""The latency of the model of a search, measured on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from mmengine.logging import print_log
from torch import nn

from ..costs import CostTable
from ..exporter.export import ExportOptions, export_onnx
from ..exporter.runtimes import RUNTIMES
from ..kinds import kind_of
from ..options import Count
from ..policy import ModelGraph, Policy, SearchSpace
from ..surgery.materialise import materialise
from .layer_timer import LayerTimer
from .table import LatencyTable, make_latency

FITTED = (1.0, 0.75, 0.5, 0.25)
"""Shares of every unit that the networks keep which a table is fitted to."""

UNCHECKED = 1.0
"""Tolerance of the export: only the time of the file counts."""


def latency_of(
    model: nn.Module, graph: ModelGraph, space: SearchSpace,
    path: str | os.PathLike, backend: Literal[tuple(RUNTIMES)] = 'onnxruntime',
    threads: Count = 1,
) -> LatencyTable:
    """A latency table that was fitted to a few whole networks.

    Args:
        model (nn.Module): The dense model, not acting as any policy.
        graph (ModelGraph): Its units and layers.
        space (SearchSpace): Gives the networks to fit to; see :data:`FITTED`.
        path (str | os.PathLike): File of measurements, kept for the next search.
        backend (str): Name of the runtime. Defaults to 'onnxruntime'.
        threads (int): Its threads. Defaults to 1.
    """
    timer = LayerTimer(path, backend, threads)
    table = make_latency(model, graph, timer)
    policies = [Policy(dict(zip(space.units, row[space.widths].tolist())))
                for row in fitting_rows(space)]
    fit_networks(table, model, graph, policies, timer)
    print_log(
        f'Latency: {timer.measured} measurements on {timer.device}; constant '
        f'{table.constant:.3f} ms, layers x {table.scale:.3f}.', 'current')
    return table


def fitting_rows(space: SearchSpace) -> np.ndarray:
    """Rows of the policies of :data:`FITTED`, in float."""
    rows = space.snap(np.array(FITTED)[:, None] * space.highest)
    rows[:, space.bits] = space.highest[space.bits]
    return rows


def fit_networks(
    table: LatencyTable, model: nn.Module, graph: ModelGraph,
    policies: Sequence[Policy], timer: LayerTimer,
) -> None:
    """Fit a table to whole float networks; see :meth:`LatencyTable.fit`."""
    costs = CostTable.from_graph(graph)
    predicted, measured = [], []
    for policy in policies:
        widths = torch.tensor([policy.widths.get(u.name, u.width)
                               for u in graph.units], dtype=torch.float64)
        bits = torch.full((len(graph.layers),), 32.0, dtype=torch.float64)
        predicted.append(float(table.layers(costs, widths, bits, bits).sum()))
        measured.append(network_ms(model, graph, policy, timer))
    table.fit(predicted, measured)
    timer.save()


def network_ms(
    model: nn.Module, graph: ModelGraph, policy: Policy, timer: LayerTimer
) -> float:
    """Measured milliseconds of the network of a policy's widths, in float."""
    key = json.dumps([graph.fingerprint, graph.input_shape, policy.to_dict()])
    slim = materialise(model, graph, Policy(policy.widths))
    with tempfile.TemporaryDirectory() as folder:
        [file] = export_onnx(
            slim, Path(folder) / 'net.onnx',
            ExportOptions(graph.input_shape, tolerance=UNCHECKED))
        data = file.path.read_bytes()
    images = kind_of(slim).images(slim, graph.input_shape, 1).numpy()
    return timer.network(hashlib.sha256(key.encode()).hexdigest(), data, [images])
