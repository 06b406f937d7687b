"""A model whose forward pass and loss are a user's functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..data.images import Batch
from ..kinds import ModelKind


@dataclass(frozen=True, eq=False)
class FunctionKind(ModelKind):
    """Runs a module by functions that take batches as a loader gives them.

    Args:
        example_batch (Batch | None): Stands for the random image where the module
            takes more than a tensor of images. Defaults to None: a random image.
        forward (Callable | None): ``forward(model, batch)`` returns the outputs.
            Defaults to calling the model on the first tensor of the batch.
        objective (Callable | None): ``loss(model, batch)`` returns the mean training
            loss. Defaults to None: unknown.
    """

    example_batch: Batch | None = None
    forward: Callable[[nn.Module, Any], Any] | None = None
    objective: Callable[[nn.Module, Any], Tensor] | None = None

    def fits(self, model: nn.Module) -> bool:
        """Never by itself: it is declared for a model."""
        return False

    def example(
        self, model: nn.Module, shape: tuple[int, ...], seed: int = 0,
        regions: int | None = None,
    ) -> Batch:
        """See :meth:`ModelKind.example`."""
        if self.example_batch is None:
            return super().example(model, shape, seed, regions)
        given, first = self.example_batch, next(model.parameters(), None)
        if first is None or not given.inputs.is_floating_point():
            return given
        return Batch(given.inputs.to(first), given.data_samples)

    def raw(self, model: nn.Module, batch: Batch) -> Any:
        """See :meth:`ModelKind.raw`."""
        if self.forward is None:
            return model(batch.inputs)
        return self.forward(model, batch.data_samples.joined(batch.inputs))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """See :meth:`ModelKind.loss`."""
        if self.objective is None:
            return super().loss(model, batch)
        return self.objective(model, batch.data_samples.joined(batch.inputs))
