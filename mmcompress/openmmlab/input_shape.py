"""The image size that costs refer to."""

from __future__ import annotations

from mmengine.config import Config

from ..errors import TraceError
from .config_files import processed_dataset


def input_shape_of(cfg: Config) -> tuple[int, ...]:
    """``(C, H, W)`` from ``compression.input_shape`` or the test pipeline.

    The last crop, pad or resize of the test pipeline decides; the size is rounded
    up to the divisor that the data preprocessor pads to. ``Resize`` scales are
    ``(width, height)`` in mmdet.

    Args:
        cfg (Config): A configuration.

    Raises:
        TraceError: Neither is there.
    """
    given = (cfg.get('compression') or {}).get('input_shape')
    if given:
        if len(given) != 3:
            raise TraceError(
                f'compression.input_shape is (C, H, W); got {tuple(given)}.')
        return tuple(int(n) for n in given)
    dataset = processed_dataset((cfg.get('test_dataloader') or {}).get('dataset', {}))
    size = None
    for step in dataset.get('pipeline', ()):
        size = _size(step) or size
    if size is None:
        raise TraceError(
            'The test pipeline does not fix an image size; set '
            'compression=dict(input_shape=(3, H, W)).')
    preprocessor = (cfg.get('model') or {}).get('data_preprocessor') or {}
    divisor = preprocessor.get('pad_size_divisor', 1) or 1
    height, width = (-(-n // divisor) * divisor for n in size)
    return 3, height, width


def _size(step: dict) -> tuple[int, int] | None:
    """Height and width after one step of a pipeline, if it fixes them."""
    kind = step.get('type')
    kind = kind.split('.')[-1] if isinstance(kind, str) else kind.__name__
    value = step.get('crop_size') if 'Crop' in kind else step.get('scale')
    if kind == 'Pad':
        value = step.get('size')
    if kind not in ('Pad', 'Resize', 'ResizeEdge', 'FixScaleResize', 'CenterCrop'):
        return None
    if kind == 'ResizeEdge' or value is None:
        return None
    if isinstance(value, int):
        return value, value
    width, height = value[:2]
    return int(height), int(width)
