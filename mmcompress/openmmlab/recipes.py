"""What the test pipeline of a config does to an image, for users of a file alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mmengine.config import Config

from ..data.preprocessing import Recipe
from .class_names import dataset_class
from .config_files import processed_dataset

LIBRARIES = dict(
    cv2=('opencv', dict(
        nearest='INTER_NEAREST', bilinear='INTER_LINEAR', bicubic='INTER_CUBIC',
        area='INTER_AREA', lanczos='INTER_LANCZOS4')),
    pillow=('pillow', {name: name.upper() for name in (
        'nearest', 'bilinear', 'bicubic', 'box', 'lanczos', 'hamming')}))
"""What resizes, and how it calls its interpolations, by mmcv's names."""

DOWN = 1e-9
"""Added before the fraction of a side is cut off, for the error of the factor alone."""

ORDER = ('load', 'resize', 'crop', 'pad')
"""A recipe has these steps, each once at most and in this order."""

HARMLESS = ('backend_args', 'file_client_args', 'ignore_empty', 'clip_object_border')
"""Options that change no pixel."""


def recipe_of(cfg: Config, shape: Sequence[int]) -> Recipe:
    """The steps of ``test_dataloader`` that a file's metadata tell.

    Args:
        cfg (Config): A configuration; no data is read.
        shape (Sequence[int]): ``(C, H, W)`` that the file takes.

    Returns:
        Recipe: Its ``unclear`` names every step that differs from what it says.
    """
    dataset = processed_dataset((cfg.get('test_dataloader') or {}).get('dataset', {}))
    if 'pipeline' not in dataset:
        return Recipe()
    reader = _Reader(tuple(shape[1:]))
    for step in dataset['pipeline']:
        reader.read(dict(step))
    found = reader.recipe
    if 'load' not in reader.seen:
        order = _order_in_memory(dataset)
        found = replace(found, colour_order=order)
        if order is None:
            reader.unclear.append(
                f'{_name(dataset)}: the colour order of its images is unknown')
    return replace(found, unclear=tuple(reader.unclear))


@dataclass
class _Reader:
    """Reads a pipeline step by step.

    Args:
        size (tuple[int, int]): Height and width that the file takes.
    """

    size: tuple[int, int]
    recipe: Recipe = field(default_factory=Recipe)
    seen: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)

    def read(self, step: dict[str, Any]) -> None:
        """Take a step in, or name it as unclear."""
        name = _name(step)
        if name.startswith(('LoadAnnotations', 'Pack')):
            return
        options = {key: value for key, value in step.items()
                   if key not in ('type', *HARMLESS)}
        reads = dict(
            LoadImageFromFile=('load', self._load), Resize=('resize', self._resize),
            ResizeEdge=('resize', self._resize_edge), CenterCrop=('crop', self._crop),
            Pad=('pad', self._pad)).get(name)
        found = None
        if reads and not any(
                ORDER.index(reads[0]) <= ORDER.index(done) for done in self.seen):
            self.seen.append(reads[0])
            found = reads[1](options)
        # A method takes the options out that it understands.
        if found is None or options:
            self.unclear.append(_written(step))
        if found:
            self.recipe = replace(self.recipe, **found)

    def _load(self, options: dict) -> dict | None:
        plain = dict(color_type='color', imdecode_backend='cv2', to_float32=False)
        for key, value in plain.items():
            if options.get(key, value) == value:
                options.pop(key, None)
        return dict(colour_order='BGR')

    def _resize(self, options: dict) -> dict | None:
        scale, keeps = options.pop('scale', None), options.pop('keep_ratio', False)
        if isinstance(scale, int):
            scale = scale, scale
        how = _interpolation(options)
        if scale is None or how is None:
            return None
        rule = dict(
            rule='fit', long=max(scale), short=min(scale), rounding=0.5) if keeps else \
            dict(rule='stretch', size=[scale[1], scale[0]])
        return dict(resize={**rule, **how})

    def _resize_edge(self, options: dict) -> dict | None:
        edge, scale = options.pop('edge', 'short'), options.pop('scale')
        how = _interpolation(options)
        if edge not in ('short', 'long') or how is None:
            return None
        return dict(resize={
            'rule': f'{edge} edge', edge: scale, 'rounding': DOWN, **how})

    def _crop(self, options: dict) -> dict | None:
        size = options.pop('crop_size')
        width, height = (size, size) if isinstance(size, int) else size
        return dict(crop=(height, width))

    def _pad(self, options: dict) -> dict | None:
        """Padding has to reach the file's shape; beside it there are other values."""
        square, size = options.pop('pad_to_square', False), options.pop('size', None)
        value = options.pop('pad_val', 0)
        if isinstance(value, Mapping):
            value = value.get('img', 0)
        rule = self.recipe.resize or dict(rule='none')
        if square and rule['rule'] == 'fit' and rule['long'] == rule['short']:
            size = rule['long'], rule['long']
        if size is None or tuple(size)[::-1] != self.size:
            return None
        return dict(padding=[float(x) for x in (
            value if isinstance(value, Sequence) else [value] * 3)])


def _interpolation(options: dict) -> dict | None:
    """The library that resizes and its interpolation; None if mmcv has another one."""
    library, names = LIBRARIES.get(options.pop('backend', 'cv2'), ('', {}))
    name = names.get(options.pop('interpolation', 'bilinear'))
    return name and dict(library=library, interpolation=name)


def _order_in_memory(dataset: Mapping) -> str | None:
    """Colours of a dataset that holds its images as arrays."""
    names = {base.__name__ for base in getattr(dataset_class(dataset), '__mro__', ())}
    return 'RGB' if 'CIFAR10' in names else None


def _name(step: Mapping) -> str:
    kind = step['type']
    return kind.split('.')[-1] if isinstance(kind, str) else kind.__name__


def _written(step: Mapping) -> str:
    options = ', '.join(f'{key}={value!r}' for key, value in step.items()
                        if key != 'type')
    return f'{_name(step)}({options})'
