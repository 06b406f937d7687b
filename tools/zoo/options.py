"""Checks of the zoo that are made only when asked for: bits, and the ONNX file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from mmcompress.exporter.export import ExportOptions, export_onnx
from mmcompress.kinds import kind_of
from mmcompress.mutators import Calibration, ChannelMutator, JointMutator, QuantMutator
from mmcompress.policy import SearchSpace
from mmcompress.surgery.modes import evaluating
from mmcompress.testing.networks import outputs, random_policy

PASSED = 'passed'


def check_options(mutator: ChannelMutator, wanted: tuple[str, ...]) -> dict[str, str]:
    """Make the checks that are asked for.

    Args:
        mutator (ChannelMutator): Prepared on the dense model.
        wanted (tuple[str, ...]): Names in :data:`OPTIONS`.

    Returns:
        dict[str, str]: ``'passed'``, or why not, for every name.
    """
    found = {}
    for name in OPTIONS:  # in this order, whatever was asked for
        if name not in wanted:
            continue
        try:
            found[name] = OPTIONS[name](mutator)
        except Exception as problem:  # any model may fail in any way of its own
            text = ' '.join(f'{type(problem).__name__}: {problem}'.split())
            found[name] = text[:300]
    return found


def check_export(mutator: ChannelMutator) -> str:
    """Export a random slim network; the file must compute what the network does."""
    graph = mutator.graph
    space = SearchSpace.from_graph(graph, **mutator.space_options)
    slim = mutator.materialise(random_policy(space, seed=1))
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(
            slim, Path(folder) / 'slim.onnx', ExportOptions(graph.input_shape))
    return PASSED


def check_fake_quant(mutator: ChannelMutator) -> str:
    """Act as a random policy of widths and bits: finite, and undone exactly.

    The model's layers are quantisable afterwards.
    """
    model, graph = mutator.model, mutator.graph
    shape = graph.trace_shape
    kind = kind_of(model)
    with evaluating(model), torch.no_grad(), kind.fixed_regions(model, shape):
        dense = outputs(model, shape)
        quant = QuantMutator()
        quant.prepare(model, graph, Calibration([kind.example(model, shape)]))
        joint = JointMutator(mutator, quant)
        space = SearchSpace.from_graph(graph, **joint.space_options)
        joint.apply(random_policy(space, seed=2))
        try:
            quantised = outputs(model, shape)
        finally:
            joint.reset()
        again = outputs(model, shape)
    if not all(x.isfinite().all() for x in quantised):
        return 'the quantised outputs are not finite'
    same = all(torch.equal(a, b) for a, b in zip(dense, again, strict=True))
    return PASSED if same else 'the outputs differ after the policy is undone'


OPTIONS: dict[str, Callable[[ChannelMutator], str]] = {
    'export': check_export, 'fake_quant': check_fake_quant}
"""By name, the checks. The last one changes the classes of layers."""
