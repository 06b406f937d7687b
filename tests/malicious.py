"""Checkpoints that leave a mark if anything in them runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Call:
    """Is pickled as a call, which the reader of the pickle makes.

    Args:
        function (Callable): What is called.
        arguments (tuple): With what.
    """

    function: Callable
    arguments: tuple

    def __reduce__(self) -> tuple:
        return self.function, self.arguments


def poisoned(checkpoint: Path | dict, path: Path) -> Path:
    """Write a checkpoint whose ``meta`` makes a folder ``path.mark`` when it runs.

    Args:
        checkpoint (Path | dict): What it is otherwise.
        path (Path): The file to write.

    Returns:
        Path: The mark, which is not there yet.
    """
    if isinstance(checkpoint, Path):
        checkpoint = torch.load(checkpoint, weights_only=False)
    mark = path.with_name(path.name + '.mark')
    call = Call(os.makedirs, (str(mark), 0o777, True))
    meta = {**checkpoint.get('meta', {}), 'author': call}
    torch.save({**checkpoint, 'meta': meta}, path)
    return mark
