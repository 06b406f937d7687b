"""Prices of what cannot be repaired, in closed form, weighed by measurement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..data.images import Batch, first
from ..errors import CompressionError, DataError
from ..evaluation.distance import (
    REFERENCES,
    DetectionReference,
    Reference,
    reference_of,
)
from ..kinds import kind_of
from ..layers.rule import rule_of, with_weight
from ..options import Count
from ..policy import FLOAT
from ..reconstruction.moments import measure, readers
from ..reconstruction.order import eliminate
from ..reconstruction.units import names_of_readers, readers_of
from ..registry import PRICES
from ..surgery.hooks import hooked
from ..surgery.modes import evaluating, in_float
from ..surgery.weights import tensors_digest
from .base import PriceSource, Subject
from .store import PriceStore
from .table import PriceTable

MEASURES = (*REFERENCES, '')

WEIGHED_AT = 0.02
"""Closed-form price of the choice at which a column is weighed, if it has one."""


@PRICES.register_module()
class ReconstructionPrices(PriceSource):
    """The error that repair leaves in the layers that read a choice.

    A width costs the mean square error of its readers' outputs over their variance,
    once the channels that stay have taken over what they can of the others (OBS,
    :mod:`mmcompress.reconstruction.order`); bits cost the error that rounding makes in
    their layer's outputs. Both come from unlabelled images and a pass or two.

    These errors are not equally bad: that of a residual stream accumulates over all
    later blocks, that of a predictor is what a user sees. So every column of the space
    is weighed by one measurement, the distance of the outputs of the network from the
    dense ones with only this column compressed, over the closed-form price of the same
    choice.

    The images are those that the evaluator calibrates on: no label is looked at.

    Args:
        images (int): Most images of the measurements. Defaults to 32.
        measure (str | None): ``'distance'`` of the raw outputs, ``'detections'``, or
            ``''`` for no weights. Defaults to None: detections where a model's can be
            compared, else raw outputs, and no weights where these have no fixed shapes
            (proposals of two-stage detectors).
    """

    def __init__(
        self, images: Count = 32, measure: Literal[MEASURES] | None = None,
    ) -> None:
        super().__init__(images)
        self.measure = measure

    @property
    def settings(self) -> dict:
        """See :attr:`PriceSource.settings`."""
        return dict(type=type(self).__name__, images=self.images, measure=self.measure)

    def open(
        self, subject: Subject, folder: Path
    ) -> tuple[Callable[[slice], list[Batch]], PriceStore]:
        """The first images of the evaluator's calibration, and what is known.

        Raises:
            DataError: There are none.
        """
        found = first(subject.evaluator.calibration, self.images)
        if not found:
            raise DataError(
                'Prices by reconstruction need calibration images; set '
                'calibration_images of the evaluator above 0, or give prepare() '
                'calibration=....')
        seen = tensors_digest(batch.inputs for batch in subject.evaluator.calibration)
        return lambda part: found, PriceStore(folder, self.key(subject, seen=seen))

    @torch.no_grad()
    def _compute(
        self, subject: Subject, load: Callable[[slice], list[Batch]], store: PriceStore
    ) -> PriceTable:
        images, curves = load(slice(None)), {}
        for name, find in (('widths', width_errors), ('bits', bit_errors)):
            known = store.get(name, (-1, 3))
            if known is None:
                subject.log(f'Prices: errors of {name}')
                found = find(subject, images)
                known = np.array([[column, i, error] for column, errors in found.items()
                                  for i, error in enumerate(errors)]).reshape(-1, 3)
                store.put(name, known)
            for column in np.unique(known[:, 0]):
                curves[int(column)] = known[known[:, 0] == column, 2]
        return PriceTable.from_columns(
            subject.space, self._weighed(subject, images, store, curves))

    def _weighed(
        self, subject: Subject, images: Sequence[Batch], store: PriceStore,
        curves: Mapping[int, np.ndarray],
    ) -> dict[int, np.ndarray]:
        """Closed-form prices by column, in the unit of the measurement."""
        if self.measure == '':
            return dict(curves)
        found: dict[int, np.ndarray] = {}
        reference = cache(lambda: _reference(subject, images, self.measure))
        for column, curve in curves.items():
            name, choice = f'weight_{column:05d}', weighed_choice(curve)
            weight = store.get(name, ())
            if weight is None:
                try:
                    distance = _distance_of(subject, reference(), column, choice)
                except CompressionError:
                    if self.measure is not None or found:
                        raise
                    subject.log('Prices: no outputs of fixed shapes, so no weights')
                    return dict(curves)
                weight = np.array(max(distance, 1e-12) / max(curve[choice], 1e-12))
                store.put(name, weight)
                subject.log(f'Prices: {len(found) + 1} of {len(curves)} columns')
            found[column] = curve * float(weight)
        return found


def _reference(
    subject: Subject, images: Sequence[Batch], measure: str | None
) -> Reference | DetectionReference:
    """Outputs of the dense network."""
    with subject.mutator.acting(subject.space.decode(subject.space.highest)[0]):
        return reference_of(subject.model, images, measure)


def _distance_of(
    subject: Subject, reference: Reference | DetectionReference, column: int,
    choice: int,
) -> float:
    """What one choice alone changes of the outputs."""
    row = subject.space.highest.copy()
    row[column] = subject.space.choices[column][choice]
    with subject.mutator.acting(subject.space.decode(row)[0]) as model:
        return reference.distance(model)


def weighed_choice(curve: np.ndarray) -> int:
    """The least compressed choice that costs :data:`WEIGHED_AT`, or the dearest."""
    dear = np.flatnonzero(curve >= WEIGHED_AT)
    return int(dear[-1]) if len(dear) else int(curve.argmax())


def width_errors(
    subject: Subject, images: Sequence[Batch]
) -> dict[int, np.ndarray]:
    """By column of a prunable unit, the error of each of its widths."""
    space, graph, model = subject.space, subject.graph, subject.model
    prunable = [i for i in range(len(graph.units)) if len(space.choices[i]) > 1]
    repair, scores = subject.mutator.repair, subject.mutator.scores
    moments = repair.moments if repair else measure(model, readers(
        model, names_of_readers(graph.units[i] for i in prunable)), images)
    # Who sorted the channels by the same statistic knows what each removal costs.
    known = scores.summed() if repair and scores and scores.kind == 'obs' else {}
    found = {}
    for i in prunable:
        unit = graph.units[i]
        own = readers_of(model, unit, moments)
        if not own:
            raise CompressionError(
                f'No layer without groups reads the unit {unit.name!r}, so it has no '
                "closed-form price; use prices=dict(type='MeasuredPrices').")
        # The channels are sorted, so the last one goes first.
        if unit.name in known:
            losses = np.append(0.0, known[unit.name][::-1])
        else:
            losses = eliminate(
                own, unit.width, fixed=range(unit.width)[::-1]).losses.cpu().numpy()
        found[i] = losses[[unit.width - width for width in space.choices[i]]].clip(0)
    return found


def bit_errors(
    subject: Subject, images: Sequence[Batch]
) -> dict[int, np.ndarray]:
    """By column of free bits, the error of a layer's outputs at each choice.

    It is measured in every layer alone, on what the float network gives it: variance of
    the change over variance of the output, as a bias or a norm takes the mean.
    """
    space, quantiser = subject.space, subject.mutator.quantiser
    _, weights, activations = space.split(np.arange(len(space)))
    columns = {
        name: {side: int(column) for side, column in zip(('w', 'a'), pair)
               if len(space.choices[column]) > 1}
        for name, pair in zip(space.layers, zip(weights, activations))}
    columns = {name: sides for name, sides in columns.items() if sides}
    errors: dict[int, np.ndarray] = {}
    energy: dict[str, float] = {}
    if not columns:
        return errors

    def watch(name: str, module: nn.Module, args: tuple, output: Tensor) -> None:
        x = args[0]
        energy[name] = energy.get(name, 0.0) + spread_of(module, output)
        for side, column in columns[name].items():
            found = [0.0 if bits >= FLOAT else spread_of(module, _change(
                quantiser, name, module, x, output, side, bits))
                for bits in space.choices[column]]
            errors[column] = errors.get(column, 0.0) + np.array(found)

    modules = dict(subject.model.named_modules())
    with evaluating(subject.model), in_float(subject.model), hooked(
            after={modules[name]: partial(watch, name) for name in columns}):
        for batch in images:
            kind_of(subject.model).raw(subject.model, batch)
    return {column: errors[column] / max(energy[name], 1e-30)
            for name, sides in columns.items() if name in energy
            for column in sides.values()}


def _change(
    quantiser: nn.Module, name: str, module: nn.Module, x: Tensor, output: Tensor,
    side: str, bits: int,
) -> Tensor:
    """What quantising one side of a layer changes in its outputs."""
    if side == 'w':
        changed = with_weight(module, quantiser.weight(name, bits))
    else:
        changed, x = module, quantiser.activation(name, x, bits)
    return type(module).forward(changed, x) - output


def spread_of(module: nn.Module, output: Tensor) -> float:
    """Variance over places, summed over the channels."""
    rows = output.movedim(rule_of(module).channel_axis(module, output), -1)
    return float(rows.flatten(0, -2).double().var(0, unbiased=False).sum())
