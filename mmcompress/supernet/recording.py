"""What went in and out of every stage, and the same modules called again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from ..arithmetic.slices import take
from ..errors import CompressionError
from ..graph.boundaries import Boundary, Occupancy, Passed, calls_watched, tensors_of
from ..policy import IN, OUT
from .stages import Stage


@dataclass(frozen=True)
class Made:
    """Stands for a tensor that an earlier call of the same stage returned.

    Args:
        call (int): Number of that call within the stage.
        place (int): Number of the tensor among those it returned.
    """

    call: int
    place: int


@dataclass(frozen=True, eq=False)
class Held:
    """A tensor of the full network at the boundary of a stage.

    Args:
        tensor (Tensor): Detached.
        boundary (Boundary): Where it was seen.
        version (int): Of the tensor when it was handed over.
    """

    tensor: Tensor
    boundary: Boundary
    version: int

    def restricted(
        self, occupied: Mapping[Boundary, Occupancy], widths: Mapping[str, int]
    ) -> Tensor:
        """The channels that remain at these widths.

        Raises:
            CompressionError: The tensor was written into since.
        """
        if self.tensor._version != self.version:
            raise CompressionError(
                'The network writes into a tensor at the boundary of '
                f'{self.boundary[0]!r} after it was handed over; put the boundary of '
                'this stage elsewhere.')
        occupancy = occupied.get(self.boundary)
        if occupancy is None:
            return self.tensor
        return take(self.tensor, occupancy.dim, occupancy.kept(widths))


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a module of a stage by the full network.

    Args:
        path (str): The module.
        inputs (Any): Its positional and keyword arguments, every tensor replaced by
            a :class:`Made` or a :class:`Held`.
        result (Any): What it returned, tensors as :class:`Held`; None where a later
            module of the stage goes on with it.
    """

    path: str
    inputs: tuple[tuple, dict]
    result: Any


class Recording:
    """The calls of every stage in one forward pass of the full network.

    Tensors are kept detached and share their memory with the forward pass, whose
    graph is freed by its backward pass as ever.

    Args:
        stages (Sequence[Stage]): The stages.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = tuple(stages)
        self.calls: dict[str, list[Call]] = {}

    @contextmanager
    def of(self, model: nn.Module) -> Iterator[None]:
        """Record what ``model`` does within the block."""
        # Live tensors are held until the end, so that no id is used again.
        passed: dict[str, list[Passed]] = {stage.name: [] for stage in self.stages}
        names = {path: s.name for s in self.stages for path in s.modules}
        with calls_watched(
                model, list(names), lambda call: passed[names[call.path]].append(call)):
            yield
        self.calls = {name: _linked(calls) for name, calls in passed.items()}

    def targets(self, stage: Stage) -> list[Any]:
        """What a stage of one module returned, call by call."""
        return [_mapped(lambda leaf: leaf.tensor if isinstance(leaf, Held) else leaf,
                        call.result) for call in self.calls[stage.name]]

    def replay(
        self, stage: Stage, model: nn.Module, occupied: Mapping[Boundary, Occupancy],
        widths: Mapping[str, int],
    ) -> Iterator[tuple[Any, Any]]:
        """Call the modules of a stage again on what the full network gave them.

        Args:
            stage (Stage): The stage.
            model (nn.Module): Acts as the policy with these widths.
            occupied (Mapping): From :func:`trace_boundaries`.
            widths (Mapping[str, int]): Of the policy.

        Yields:
            tuple[Any, Any]: What the stage returns, and what the full network did,
            restricted to the same channels.
        """
        made: list[list[Tensor]] = []

        def tensor_of(leaf: Any) -> Any:
            if isinstance(leaf, Made):
                return made[leaf.call][leaf.place]
            if isinstance(leaf, Held):
                return leaf.restricted(occupied, widths)
            return leaf

        for call in self.calls[stage.name]:
            args, kwargs = _mapped(tensor_of, call.inputs)
            result = model.get_submodule(call.path)(*args, **kwargs)
            made.append(tensors_of(result))
            if call.result is not None:
                yield result, _mapped(tensor_of, call.result)


def _linked(passed: Sequence[Passed]) -> list[Call]:
    """Replace live tensors by where they come from."""
    made: dict[int, Made] = {}
    inputs, results, consumed = [], [], set()
    for number, call in enumerate(passed):
        def held(side: str, versions: Sequence[int], call=call) -> Callable:
            places = iter(enumerate(versions))

            def of(leaf: Any) -> Any:
                if not isinstance(leaf, Tensor):
                    return leaf
                place, version = next(places)
                if side == IN and id(leaf) in made:
                    consumed.add(made[id(leaf)].call)
                    return made[id(leaf)]
                boundary = (call.path, call.number, side, place)
                return Held(leaf.detach(), boundary, version)
            return of

        inputs.append(_mapped(held(IN, call.given), (call.args, call.kwargs)))
        results.append(_mapped(held(OUT, call.returned), call.result))
        for place, tensor in enumerate(tensors_of(call.result)):
            made[id(tensor)] = Made(number, place)
    return [
        Call(call.path, given, None if number in consumed else result)
        for number, (call, given, result) in enumerate(zip(passed, inputs, results))]


def _mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    leaves, spec = tree_flatten(tree)
    return tree_unflatten([function(leaf) for leaf in leaves], spec)
