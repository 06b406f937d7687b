"""mmcompress: the compression toolkit for OpenMMLab.

``import mmcompress as mmc`` shows a handful of verbs; see :mod:`mmcompress.api`.
"""

from __future__ import annotations

from typing import Any

from . import _torchvision  # noqa: F401  isort: skip  (must precede mmdet, mmpretrain)

try:
    from mmengine.config.utils import MODULE2PACKAGE
except ModuleNotFoundError as error:
    if error.name != 'mmengine':
        raise
    raise ModuleNotFoundError(
        'mmcompress needs mmengine, and for models of OpenMMLab mmcv with mmdet or '
        'mmpretrain. Which packages provide them is your choice: onedl-mmengine or '
        'mmengine, for example. See docs/get_started.md.', name='mmengine') from error

from . import registry  # noqa: F401  (makes the scope 'mmcompress' known)

# Lets a config inherit through _base_ = 'mmcompress::...'.
MODULE2PACKAGE.setdefault('mmcompress', 'mmcompress.registry')

__version__ = '0.1.0'

VERBS = dict(
    prepare='api.prepare', search='api.search', compress='api.compress',
    load='api.load', export='api.export', reconstruct='api.reconstruct',
    zoo='api.zoo', Session='session')
"""Where the front door's names live; they are imported when first asked for."""

__all__ = [
    'Session', 'compress', 'export', 'load', 'prepare', 'reconstruct', 'search', 'zoo']


def __getattr__(name: str) -> Any:
    if name not in VERBS:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from importlib import import_module

    return getattr(import_module(f'{__name__}.{VERBS[name]}'), name)


def __dir__() -> list[str]:
    return [*__all__, '__version__']
