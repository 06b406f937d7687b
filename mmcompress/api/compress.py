"""All of it in one call, for a config of OpenMMLab."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from ..report import Results


def compress(
    config: Any,
    targets: Mapping[str, Any] | None = None,
    *,
    work_dir: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    **options: Any,
) -> Results:
    """Search, fine-tune, quantise, export, test and time the networks of a config.

    What ``tools/compress.py`` does. The same call skips what is done, continues what
    was interrupted, and repeats only what another setting changes.

    Args:
        config: A config of mmdet or mmpretrain, or its file: ``'rtmdet_tiny.py'``.
        targets: Budgets by cost: ``dict(macs=[0.7, 0.5])``. Defaults to those of
            ``search_cfg``.
        work_dir: Where everything is written: ``'out'``.
        overrides: Settings of the config by dotted name:
            ``{'load_from': 'rtmdet_tiny.pth'}``.
        options: Keys of ``compress_cfg``, see
            :class:`mmcompress.openmmlab.pipeline.options.CompressOptions`:
            ``int8=True``, ``epochs=10``, ``distill=1.0``, ``runtime='openvino'``.

    Returns:
        Results: Cost, metric, bytes and milliseconds of every network at every stage;
        ``results['macs_0.5', '8-bit file'].metric``.

    Raises:
        CompressionError: Something in the config does not fit.

    Example:
        >>> mmc.compress('my_search.py', dict(macs=[0.7, 0.5]), int8=True)
    """
    # By name: the core does not depend on the wing for OpenMMLab.
    wing = import_module('mmcompress.openmmlab.pipeline.run')
    return wing.compress_file(config, targets, work_dir, overrides, **options)
