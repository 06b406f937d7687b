"""Res2Net's blocks, which mmdet and mmpretrain each have a class for."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ...arithmetic.labels import LabelTracer
from ...arithmetic.slices import Kept, size_of
from ...layers.rule import LayerRule
from ...policy import OUT


class Bottle2neckRule(LayerRule):
    """The first conv makes ``scales`` splits, which the code cuts every ``width``.

    All splits lose the same channels, so that they stay of one size. How far their
    convs are tied to that follows from the labels: each reads a split, to which most
    blocks add what the conv before it made.
    """

    whole = False
    arranges = True
    outputs = 'width'

    def follow(
        self, module: nn.Module, tracer: LabelTracer, name: str, x: Tensor, out: Tensor
    ) -> None:
        """Tie the same channel of all splits."""
        splits = tracer.block(f'{name}.conv1', OUT, module.scales * module.width)
        own = tracer.block(name, OUT, module.width)
        tracer.tie(splits.atoms.reshape(module.scales, -1), own.atoms)

    def slice(self, module: nn.Module, out: Kept, into: Kept) -> dict[str, Any]:
        return dict(width=size_of(out, module.width))
