"""Does its file compute the same? Do its bits act and come off?"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from mmcompress.errors import ExportError
from mmcompress.exporter.export import ExportOptions, export_onnx
from mmcompress.mutators import Calibration, JointMutator, QuantMutator
from mmcompress.policy import SearchSpace
from mmcompress.surgery.modes import evaluating
from mmcompress.testing.networks import outputs, random_policy

from .subject import Failed, NotApplicable, Subject


def check_export(subject: Subject) -> str:
    """Export a random slim network; the file must compute what the network does."""
    slim, shape = subject.slim(), subject.graph.input_shape
    try:
        subject.kind.pieces(slim, subject.kind.images(slim, shape, 1))
    except ExportError as refusal:
        raise NotApplicable(str(refusal)) from refusal
    with tempfile.TemporaryDirectory() as folder:
        files = export_onnx(slim, Path(folder) / 'slim.onnx', ExportOptions(shape))
    return f'differs by {max(file.error for file in files):.0e}'


def check_fake_quant(subject: Subject) -> str:
    """Act as a random policy of widths and bits: finite, and undone exactly.

    The model's layers are quantisable afterwards.
    """
    model, graph, kind = subject.model, subject.graph, subject.kind
    shape = graph.trace_shape
    with evaluating(model), torch.no_grad(), kind.fixed_regions(model, shape):
        dense = outputs(model, shape)
        quant = QuantMutator()
        quant.prepare(model, graph, Calibration([kind.example(model, shape)]))
        joint = JointMutator(subject.mutator, quant)
        space = SearchSpace.from_graph(graph, **joint.space_options)
        joint.apply(random_policy(space, seed=2))
        try:
            quantised = outputs(model, shape)
        finally:
            joint.reset()
        again = outputs(model, shape)
    if not all(x.isfinite().all() for x in quantised):
        raise Failed('the quantised outputs are not finite')
    if not all(torch.equal(a, b) for a, b in zip(dense, again, strict=True)):
        raise Failed('the outputs differ after the policy is undone')
    return f'{len(quant.layers)} layers'
