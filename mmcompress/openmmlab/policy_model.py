"""Writing a model beside the policy file that rebuilds it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from ..api.results import write_weights
from ..errors import CompressionError
from ..policy.files import PolicyFile
from ..quant.points import file_points


def write_model(
    model: nn.Module, policy: PolicyFile | str | os.PathLike, path: str | os.PathLike,
    classes: Sequence[str] = (),
) -> None:
    """Write the policy file of a model with points between layers, and its weights.

    Args:
        model (nn.Module): Built from ``policy``.
        policy (PolicyFile | str | os.PathLike): Its policy, or the file of it.
        path (str | os.PathLike): The policy file to write; the checkpoint gets the same
            name and ``.pth``.
        classes (Sequence[str]): Names of its classes, which OpenMMLab's inferencers
            read from the checkpoint. Defaults to none: they take COCO's.
    """
    path = Path(path)
    points = file_points(model)
    file = policy if isinstance(policy, PolicyFile) else PolicyFile.load(policy)
    file = replace(file, points=() if points is None else points.sites)
    meta = dict(dataset_meta=dict(classes=list(classes))) if classes else {}
    write_weights(path.with_suffix('.pth'), model, **meta)
    file.save(path)


def check_model_out(path: str | os.PathLike, quantised: object) -> None:
    """Check what :func:`write_model` will be given.

    Args:
        path (str | os.PathLike): The policy file to write.
        quantised (object): What makes the network a quantised one, if anything.

    Raises:
        CompressionError: ``path`` is not that of a JSON file, or nothing is quantised.
    """
    if not quantised:
        raise CompressionError(
            '--model-out is for quantised networks: a file in float computes what its '
            'checkpoint does. Give the --policy, or --int8.')
    if Path(path).suffix != '.json':
        raise CompressionError(
            f'{path} has to end in .json: it is a policy file, and its checkpoint is '
            'written beside it.')
