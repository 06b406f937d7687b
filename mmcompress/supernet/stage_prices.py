"""Prices of whole stages, for a knapsack over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np

from ..data.images import Batch
from ..errors import CompressionError
from ..options import Count, Positive, Within
from ..policy import ModelGraph, SearchSpace
from ..prices import PriceSource, Subject
from ..prices.store import PriceStore
from ..prices.table import PriceGroup, PriceTable
from ..registry import PRICES
from ..searchers.starts import random_rows
from .stage_losses import channels_of, mean_stage_losses
from .stages import Stage, read_stages
from .supernet import Supernet


@PRICES.register_module()
class StageLossPrices(PriceSource):
    """The price of a stage's widths is the loss of that stage of the supernet.

    The units inside a stage are decided together: a group of the table holds their
    dense widths, the smallest ones, uniform and random ones. Units that cross a
    boundary must stay dense (``compression.channel.dense``): then costs add up over
    the stages as the losses do, and ``searcher=dict(type='TwoStage')`` solves a
    multiple-choice knapsack over the stages' trade-offs. Needs no labels.

    Args:
        images (int): Number of images. Defaults to 256.
        batch_size (int): Images at a time. Defaults to 64.
        dataset (dict | None): See :class:`PriceSource`.
        choices (int): Widths of a stage that are priced. Defaults to 64.
        stages (str | Sequence): See :func:`read_stages`. Defaults to 'auto'.
        temperature (float): Of softened logits. Defaults to 4.
    """

    def __init__(
        self, images: Count = 256, batch_size: Count = 64, dataset: dict | None = None,
        choices: Annotated[int, Within(4)] = 64, stages: str | Sequence = 'auto',
        temperature: Positive = 4.0,
    ) -> None:
        super().__init__(images, batch_size, dataset)
        self.choices, self.stages_cfg, self.temperature = choices, stages, temperature

    @property
    def settings(self) -> dict:
        """See :attr:`PriceSource.settings`."""
        return dict(super().settings, choices=self.choices,
                    stages=repr(self.stages_cfg), temperature=self.temperature)

    def _compute(
        self, subject: Subject, load: Callable[[slice], list[Batch]], store: PriceStore
    ) -> PriceTable:
        channel, space = channels_of(subject.mutator), subject.space
        if any(len(choice) > 1 for choice in space.choices[space.bits]):
            raise CompressionError(
                'Stage losses price widths, not bits; remove quant from compression.')
        stages = read_stages(
            subject.model, self.stages_cfg, subject.graph.input_shape)
        supernet = Supernet(
            subject.model, subject.graph, channel, stages, self.temperature)
        columns = columns_of(subject.graph, space, stages)
        rows = self._rows(subject)
        prices = store.get('stages', (len(rows), len(stages)))
        if prices is None:
            batches = load(slice(None))
            found = mean_stage_losses(supernet, batches, space.decode(rows))
            prices = np.array([[losses[s.name] for s in stages] for losses in found])
            store.put('stages', prices)
        groups = []
        for number, stage in enumerate(stages):
            own = columns.get(stage.name, [])
            if own:
                values, first = np.unique(rows[:, own], axis=0, return_index=True)
                groups.append(PriceGroup(tuple(own), values, prices[first, number]))
        subject.log(f'Prices: {len(rows)} choices in each of {len(groups)} stages')
        return PriceTable(tuple(groups), space.highest)

    def _rows(self, subject: Subject) -> np.ndarray:
        """Rows of the space; each stage takes its own columns of them."""
        space = subject.space
        rng = np.random.default_rng(subject.evaluator.seed)
        shares = np.linspace(0, 1, self.choices // 4)[:, None]
        even = space.lowest + shares * (space.highest - space.lowest)
        drawn = random_rows(space, self.choices - len(even), rng)
        return space.snap(np.concatenate([even, drawn]))


def columns_of(
    graph: ModelGraph, space: SearchSpace, stages: Sequence[Stage]
) -> dict[str, list[int]]:
    """Units of every stage whose width may change, as columns of the space.

    Raises:
        CompressionError: Such a unit is not inside one stage, so that costs do not
            add up over the stages.
    """
    def stage_of(layer: str) -> str:
        inside = [s.name for s in stages for path in s.modules
                  if f'{layer}.'.startswith(f'{path}.')]
        return inside[0] if inside else 'none'

    columns: dict[str, list[int]] = {}
    for number, (unit, choices) in enumerate(zip(graph.units, space.choices)):
        names = {stage_of(m.layer.partition('@')[0]) for m in unit.members}
        if len(choices) == 1:
            continue
        if len(names) > 1 or names == {'none'}:
            raise CompressionError(
                f'Unit {unit.name!r} is not inside one stage (but in '
                f'{", ".join(sorted(names))}), so the costs of stages do not add up: '
                'keep it at its width by compression.channel.dense, or search by '
                "searcher=dict(type='Islands').")
        columns.setdefault(names.pop(), []).append(number)
    return columns
