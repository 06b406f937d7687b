"""The stages of a network: modules of the user's own model, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from ..errors import CompressionError
from ..evaluation.distillation import KINDS, kind_of
from ..graph.boundaries import Passed, calls_watched, tensors_of
from ..graph.inputs import run
from ..graph.trace import inference
from ..kinds import HEADS
from ..kinds import kind_of as models_kind


@dataclass(frozen=True)
class Stage:
    """Modules that run one after another and are trained as one subnet.

    Args:
        name (str): Shown in the log.
        modules (tuple[str, ...]): Dotted paths in the user's model.
        loss (str): How its outputs are compared with those of the full network; see
            :func:`mmcompress.evaluation.distillation.kind_of`.
    """

    name: str
    modules: tuple[str, ...]
    loss: str = 'features'


def read_stages(
    model: nn.Module, spec: str | Sequence[Mapping | str], shape: tuple[int, ...]
) -> tuple[Stage, ...]:
    """Stages as the config says, or found from the model's structure.

    Args:
        model (nn.Module): The model.
        spec (str | Sequence): ``'auto'``, or one entry per stage: a module path, or
            ``dict(modules=[...])`` with ``name`` and ``loss`` if wanted.
        shape (tuple[int, ...]): ``(C, H, W)`` of an image.

    Raises:
        CompressionError: A path does not exist, or is in two stages.
    """
    if isinstance(spec, str):
        if spec != 'auto':
            raise CompressionError(
                f"stages is {spec!r}; give 'auto', None or a list of module paths.")
        return find_stages(model, shape)
    stages = []
    for entry in spec:
        entry = dict(modules=[entry]) if isinstance(entry, str) else dict(entry)
        paths = tuple(entry.pop('modules', ()))
        for path in paths:
            try:
                model.get_submodule(path)
            except AttributeError as error:
                raise CompressionError(
                    f'stages names {path!r}, but {error}. Give dotted module paths '
                    'of the model.') from None
        if not paths:
            raise CompressionError(f'A stage has no modules: {dict(entry)}.')
        name = entry.pop('name', paths[0])
        loss = entry.pop('loss', None) or kind_of(
            model.get_submodule(paths[-1]), paths[-1])
        if entry or loss not in KINDS:
            raise CompressionError(
                f'Stage {name!r} is malformed; it takes modules, name and loss, one '
                f'of {", ".join(KINDS)}.')
        stages.append(Stage(name, paths, loss))
    _check_disjoint(stages)
    return tuple(stages)


def _check_disjoint(stages: Sequence[Stage]) -> None:
    paths = [(path, stage.name) for stage in stages for path in stage.modules]
    for i, (path, name) in enumerate(paths):
        for other, where in paths[i + 1:]:
            if f'{path}.'.startswith(f'{other}.') or f'{other}.'.startswith(f'{path}.'):
                raise CompressionError(
                    f'{path!r} of stage {name!r} and {other!r} of stage {where!r} '
                    'overlap; a module belongs to one stage.')


def find_stages(model: nn.Module, shape: tuple[int, ...]) -> tuple[Stage, ...]:
    """Cut the backbone where its resolution changes, then the neck and the heads.

    A cut falls between children of the backbone. Children before the first one that
    holds blocks (a stem of plain layers) join its stage, and a neck without weights
    joins the head.

    Args:
        model (nn.Module): A classifier or detector with a ``backbone``.
        shape (tuple[int, ...]): ``(C, H, W)`` of an image.

    Raises:
        CompressionError: The model has no ``backbone``.
    """
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, nn.Module):
        raise CompressionError(
            f'{type(model).__name__} has no backbone to find stages in; give stages '
            'as lists of module paths.')
    order: dict[str, tuple[int, ...]] = {}

    def seen(call: Passed) -> None:
        tensors = tensors_of(call.result)
        order.setdefault(call.path, tuple(tensors[-1].shape[2:]) if tensors else ())

    with inference(model), calls_watched(
            model, [f'backbone.{p}' for p in _children(backbone)], seen):
        run(model, shape)
    stages = [*_by_resolution(model, order)]
    first, *others = heads_of(model)
    if isinstance(getattr(model, 'neck', None), nn.Module):
        if any(True for _ in model.neck.parameters()):
            stages.append(Stage('neck', ('neck',)))
        else:
            first = replace(first, modules=('neck', *first.modules))
    return (*stages, first, *others)


def heads_of(model: nn.Module) -> tuple[Stage, ...]:
    """The heads of a model, each as a stage.

    Raises:
        CompressionError: It has none.
    """
    paths = models_kind(model).heads(model)
    if not paths:
        raise CompressionError(
            f'{type(model).__name__} has none of the heads {", ".join(HEADS)}; give '
            'stages as lists of module paths.')
    return tuple(Stage(p, (p,), kind_of(getattr(model, p), p)) for p in paths)


def _children(module: nn.Module) -> Iterator[str]:
    """Paths of the children that can be called."""
    for name, child in module.named_children():
        if isinstance(child, (nn.ModuleList, nn.ModuleDict)):
            yield from (f'{name}.{path}' for path in _children(child))
        else:
            yield name


def _by_resolution(
    model: nn.Module, order: Mapping[str, tuple[int, ...]]
) -> Iterator[Stage]:
    group: list[str] = []
    previous = None
    for path, resolution in order.items():
        if resolution != previous and _has_blocks(model, group):
            yield _stage(model, group)
            group = []
        group.append(path)
        previous = resolution
    if group:
        yield _stage(model, group)


def _has_blocks(model: nn.Module, paths: Sequence[str]) -> bool:
    return any(isinstance(model.get_submodule(path), nn.Sequential) for path in paths)


def _stage(model: nn.Module, paths: Sequence[str]) -> Stage:
    blocks = [p for p in paths if isinstance(model.get_submodule(p), nn.Sequential)]
    return Stage((blocks or paths)[-1].removeprefix('backbone.'), tuple(paths))
