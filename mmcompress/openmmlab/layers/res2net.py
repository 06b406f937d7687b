"""Res2Net's blocks, which mmdet and mmpretrain each have a class for."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ...arithmetic.labels import LabelTracer
from ...arithmetic.slices import Kept, parts_left
from ...layers.rule import LayerRule
from ...policy import OUT


class Bottle2neckRule(LayerRule):
    """The code cuts what the first conv makes into splits, every ``width`` channels.

    It hands ``width`` to ``torch.split``, which takes a list of sizes as well: each
    split may lose channels of its own. How far the convs of the splits are tied follows
    from the labels: most blocks add what a conv makes to the split behind it.
    """

    whole = False
    arranges = True

    def out_size(self, module: nn.Module) -> int:
        return sum(_widths(module))

    def follow(
        self, module: nn.Module, tracer: LabelTracer, name: str, x: Tensor, out: Tensor
    ) -> None:
        """Tie the splits to the conv that makes them."""
        own = tracer.block(name, OUT, self.out_size(module))
        made = tracer.block(f'{name}.conv1', OUT, own.size)
        tracer.tie(own.atoms, made.atoms)

    def slice(self, module: nn.Module, out: Kept, into: Kept) -> dict[str, Any]:
        return {} if out is None else dict(width=parts_left(out, _widths(module)))


def _widths(module: nn.Module) -> list[int]:
    width = module.width
    return width if isinstance(width, list) else [width] * module.scales
