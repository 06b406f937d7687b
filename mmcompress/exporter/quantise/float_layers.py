"""Which layers of a network have to stay in float, by measurement.

Few layers make most of the error of a network in 8 bits, e.g. early ones whose outputs
have a wide range. Each layer is put in integers alone, with the 8-bit points that its
file would have before and behind it, and what that does to the outputs is measured. The
errors of layers nearly add up, so the worst ones are left in float until the whole
network, which is measured again, is within a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

import numpy as np
import onnx_ir as ir

from ...errors import ExportError
from ..editing import to_bytes
from ..passes.layers import LAYERS, layer_of
from ..runtimes import OnnxRuntime
from .placement import Placement, own_points
from .plan import LayerPlan, QuantPoint
from .qdq import measured_placement, quantise_model, write_placement
from .runtime_rules import ONNX_RUNTIME, RuntimeRules

LIMIT = 0.01
"""Largest error of a network in 8 bits, unless another limit is given; see
:meth:`Reference.error`. At 0.03 YOLOX-nano loses half a point of mAP on COCO, and one
that was trained on blood cells almost three; at 0.01 that one loses 0.3."""

MEASURED = 8
"""Calibration images that errors are measured on."""

SHOWN = 5
"""Layers that a message names with their error."""

Progress = Callable[[int, int], object]
"""Told how many of how many measurements are done."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What the float network says of some images.

    Args:
        images (Sequence[np.ndarray]): Inputs, each a batch that the network takes.
        outputs (Sequence[Sequence[np.ndarray]]): Of each image.
    """

    images: Sequence[np.ndarray]
    outputs: Sequence[Sequence[np.ndarray]]

    @classmethod
    def of(cls, model: ir.Model, images: Sequence[np.ndarray]) -> Reference:
        """Run the float network."""
        run = OnnxRuntime(to_bytes(model), integers=False)
        return cls(images, [run(image) for image in images])

    def error(self, model: ir.Model) -> float:
        """Mean squared difference of the outputs over their variance, mean of them."""
        run = OnnxRuntime(to_bytes(model), integers=False)
        found = [run(image) for image in self.images]
        return fmean(
            relative_difference(np.stack(got), np.stack(wanted))
            for got, wanted in zip(zip(*found), zip(*self.outputs)))


def relative_difference(got: np.ndarray, wanted: np.ndarray) -> float:
    """Mean squared difference over the variance of what is wanted."""
    difference = np.square(got - wanted, dtype=np.float64).mean()
    return float(difference / max(wanted.var(dtype=np.float64), 1e-12))


@dataclass(frozen=True)
class FloatLayers:
    """Layers that stay in float, and why.

    Args:
        names (tuple[str, ...]): The layers, the worst first.
        error (float): Of the network with all others in integers.
        before (float): Of the network with all layers in integers.
        errors (Mapping[str, float]): Of every layer in integers alone, the worst
            first; empty where all of them together are within the limit.
    """

    names: tuple[str, ...]
    error: float
    before: float
    errors: Mapping[str, float] = field(default_factory=dict)


def find_float_layers(
    model: ir.Model, plan: Mapping[str, LayerPlan], images: Sequence[np.ndarray],
    limit: float = LIMIT, progress: Progress = lambda done, total: None,
    rules: RuntimeRules = ONNX_RUNTIME,
    measured: dict[ir.Value, QuantPoint] | None = None,
    half: bool = False,
) -> FloatLayers:
    """Leave the worst layers in float until a network is within a limit.

    Args:
        model (ir.Model): The network in float.
        plan (Mapping[str, LayerPlan]): Its layers, all in integers.
        images (Sequence[np.ndarray]): Preprocessed calibration images.
        limit (float): See :meth:`Reference.error`. Defaults to :data:`LIMIT`.
        progress (Progress): Told about the measurements.
        rules (RuntimeRules): Of the runtime that will run it. Defaults to ONNX
            Runtime's.
        measured, half: See :func:`.qdq.quantise_model`.

    Raises:
        ExportError: Not a single layer may be in integers.
    """
    reference = Reference.of(model, images[:MEASURED])
    measured = {} if measured is None else measured

    def error_without(names: Sequence[str]) -> float:
        rest = {name: layer for name, layer in plan.items() if name not in names}
        return reference.error(quantise_model(
            model, rest, images, rules=rules, measured=measured, half=half).model)

    error = before = error_without(())
    if error <= limit:
        return FloatLayers((), error, before)
    errors = layer_errors(model, plan, images, reference, progress, rules, measured)
    names = list(errors)
    count, left = 0, sum(errors.values())
    while error > limit:
        # Errors nearly add up; by how much they do not is known from the last time.
        allowed = limit * left / error
        count += 1
        while count < len(names) and sum(map(errors.get, names[count:])) > allowed:
            count += 1
        left = sum(map(errors.get, names[count:]))
        if count == len(names):
            raise ExportError(
                f'With any layer in 8 bits the outputs differ from the float network '
                f'by more than {limit:g} of their variance; allow more '
                '(--int8-limit), or export in float.')
        error = error_without(names[:count])
    return FloatLayers(tuple(names[:count]), error, before, errors)


def layer_errors(
    model: ir.Model, plan: Mapping[str, LayerPlan], images: Sequence[np.ndarray],
    reference: Reference, progress: Progress = lambda done, total: None,
    rules: RuntimeRules = ONNX_RUNTIME,
    measured: dict[ir.Value, QuantPoint] | None = None,
) -> dict[str, float]:
    """The error of every layer in integers alone, the worst first.

    Args:
        model, plan, images, progress, rules, measured: See :func:`find_float_layers`.
        reference (Reference): What the errors are measured against.
    """
    placement = measured_placement(model, plan, images, rules, measured)
    own = own_points(model.graph, plan)
    errors = {}
    for number, name in enumerate(plan):
        errors[name] = reference.error(
            write_placement(model, _alone(model.graph, placement, own, name)))
        progress(number + 1, len(plan))
    return dict(sorted(errors.items(), key=lambda item: -item[1]))


def advice(
    model: ir.Model, plan: Mapping[str, LayerPlan], images: Sequence[np.ndarray],
    rules: RuntimeRules = ONNX_RUNTIME,
) -> str:
    """Which layers to leave in float where a network in integers is refused.

    Args:
        model, plan, images, rules: See :func:`find_float_layers`.
    """
    errors = layer_errors(
        model, plan, images, Reference.of(model, images[:MEASURED]), rules=rules)
    names, left = [], sum(errors.values())
    # With few bits no choice may be within the limit: a tenth of the error is left.
    allowed = max(LIMIT, 0.1 * left)
    for name, error in errors.items():
        if left <= allowed and len(names) >= SHOWN:
            break
        names.append(name)
        left -= error
    return (f'The worst layers, each alone in integers: {_listed(errors)}. Leave in '
            f'float: skip={names} (of compression.quant), or --skip {" ".join(names)} '
            '(of tools/export.py --int8).')


def _listed(errors: Mapping[str, float]) -> str:
    return ', '.join(
        f'{name} ({error:.2g})' for name, error in list(errors.items())[:SHOWN])


def _alone(
    graph: ir.Graph, placement: Placement, own: Placement, name: str
) -> Placement:
    """What of a placement is there for one layer."""
    nodes = [node for node in graph if layer_of(node) == name]
    constants = {node.inputs[1] for node in nodes}
    values = {node.inputs[0] for node in nodes} | _behind(nodes, placement, own)
    return replace(
        placement,
        points={value: placement.resolve(value) for value in placement.points
                if value in values},
        extra={key: point for key, point in placement.extra.items()
               if key[0] in nodes},
        weights={value: weight for value, weight in placement.weights.items()
                 if value in constants})


def _behind(
    nodes: Sequence[ir.Node], placement: Placement, own: Placement
) -> set[ir.Value]:
    """Points between layers and the next quantised inputs of layers."""
    found, seen = set(), set()
    ahead = [value for node in nodes for value in node.outputs]
    while ahead:
        value = ahead.pop()
        if value in own.points or value in seen:
            continue
        seen.add(value)
        if value in placement.points and placement.root(value) not in own.points:
            found.add(value)
        ahead += [output for node in value.consumers() if node.op_type not in LAYERS
                  for output in node.outputs]
    return found
