"""Reads checkpoints without running what is in them.

A checkpoint is a pickle, and a pickle may call any function. ``torch.load`` has a
reader that calls none but listed ones (``weights_only=True``), but mmengine falls back
to the other reader where that one refuses, downloads never use it, and resuming runs
the text of a config that old checkpoints hold. Within :func:`loading` every
``torch.load`` is the safe one: mmengine's for all its schemes (files, ``https://``,
``open-mmlab://``, ``torchvision://``, ``s3://``, ...), torch's downloads, and those of
models and hooks. The command lines run within it; importing this changes nothing.

torch before 2.6 has no list to extend: checkpoints of weights load there, those that
hold a training's history need trust.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from pickle import UnpicklingError
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.runner import CheckpointLoader
from mmengine.utils import digit_version

from ..errors import CheckpointError
from . import stand_ins as stand_in

TRUST_FLAG = '--trust-checkpoint'
"""Option of the command lines that lets checkpoints run code."""

ALLOWED: dict[str, Any] = {
    # The scalars that a training has logged.
    'mmengine.logging.history_buffer.HistoryBuffer': stand_in.History,
    # Metainfo of a dataset, as the config gave it; copies a dictionary.
    'mmengine.config.config.ConfigDict': ConfigDict,
    # Arrays and numbers in buffers, metainfo and schedules; NumPy 1 and 2 name the
    # module differently.
    'numpy.dtype': stand_in.Dtype,
    'numpy.ndarray': stand_in.Array,
    'numpy.core.multiarray._reconstruct': stand_in.reconstruct,
    'numpy._core.multiarray._reconstruct': stand_in.reconstruct,
    'numpy.core.multiarray.scalar': stand_in.scalar,
    'numpy._core.multiarray.scalar': stand_in.scalar,
    # Histories and OneCycleLR keep functions of their class in their state.
    'builtins.getattr': stand_in.attribute,
    'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler':
        stand_in.ONE_CYCLE,
}
"""What checkpoints may name besides what torch allows: tensors, ``OrderedDict``,
``Counter``, ``set`` and the like. A module of a project may add a harmless class of
its own."""

_LISTS = digit_version(torch.__version__) >= digit_version('2.6.0')
_FORCE, _FORCE_NOT = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
_trusted: ContextVar[bool] = ContextVar('trusted', default=False)


def load(
    path: str, map_location: Any = 'cpu', trust: bool | None = None
) -> dict[str, Any]:
    """Read a checkpoint, from wherever mmengine reads them.

    Args:
        path (str): A file, or an address with a scheme that mmengine knows.
        map_location (Any): See :func:`torch.load`. Defaults to 'cpu'.
        trust (bool | None): Let it run code. Defaults to what the surrounding
            :func:`loading` says, False if there is none.

    Raises:
        CheckpointError: It needs more than tensors and plain values.
    """
    with loading(trust):
        return CheckpointLoader.load_checkpoint(path, map_location)


def state_of(checkpoint: Any, path: str) -> dict[str, Any]:
    """The tensors of a checkpoint by name.

    Raises:
        CheckpointError: It holds something else.
    """
    found = checkpoint.get('state_dict', checkpoint) \
        if isinstance(checkpoint, dict) else checkpoint
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise CheckpointError(
            f'The checkpoint {path!r} holds a {type(found).__name__}, not tensors by '
            'name; take one that a training or a search has written.')
    return found


@contextmanager
def loading(trust: bool | None = None) -> Iterator[None]:
    """Make every ``torch.load`` of this process safe, and that of its children.

    Args:
        trust (bool | None): Let checkpoints run code instead. Defaults to what a
            surrounding context says, False if there is none.
    """
    trust = _trusted.get() if trust is None else trust
    token = _trusted.set(trust)
    before = torch.load
    environment = {name: os.environ.get(name) for name in (_FORCE, _FORCE_NOT)}
    torch.load = _load_trusted if trust else _load_safely
    # For who imported the function itself, and for processes that data loaders start.
    _set_environment({_FORCE: None if trust else '1', _FORCE_NOT: None})
    try:
        yield
    finally:
        torch.load = before
        _set_environment(environment)
        _trusted.reset(token)


def _load_safely(
    f: Any, map_location: Any = None, pickle_module: Any = None, *,
    weights_only: bool | None = None, **options: Any
) -> Any:
    """Has the signature of ``torch.load``; heeds neither module nor permission."""
    try:
        with _allowed() if _LISTS else nullcontext():
            checkpoint = torch.serialization.load(
                f, map_location, weights_only=True, **options)
    except (UnpicklingError, AttributeError, LookupError, TypeError) as error:
        # A pickle can go wrong in any of these ways.
        raise CheckpointError(_refusal(f, str(error))) from error
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    if isinstance(meta, dict):
        # Runner.resume would run this text as a Python file, to read the number of
        # GPUs from it. mmengine's own checkpoints have none.
        meta.pop('config', None)
    return checkpoint


def _load_trusted(
    f: Any, map_location: Any = None, pickle_module: Any = None, *,
    weights_only: bool | None = None, **options: Any
) -> Any:
    """Has the signature of ``torch.load``; runs what the file says."""
    return torch.serialization.load(
        f, map_location, pickle_module, weights_only=False, **options)


@contextmanager
def _allowed() -> Iterator[None]:
    """Allow what :data:`ALLOWED` lists, and nothing that others have listed.

    mmengine lists ``getattr`` and NumPy's own functions before it calls this.
    """
    before = torch.serialization.get_safe_globals()
    entries: list[Callable | tuple] = [(value, name) for name, value in ALLOWED.items()]
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(entries)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _set_environment(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _refusal(f: Any, error: str) -> str:
    """The sentence about a file that the safe reader does not take."""
    name = repr(os.fspath(f)) if isinstance(f, str | os.PathLike) else 'in memory'
    if found := re.search(r'GLOBAL (\S+)', error):
        # torch leaves the module of builtins out.
        what = found[1] if '.' in found[1] else f'builtins.{found[1]}'
        problem = f'it asks for {what}, which is not among what a checkpoint may use'
    else:
        reason = error.partition('WeightsUnpickler error: ')[2] or error
        reason = reason.strip().splitlines()[0].rstrip('. ')
        problem = 'it is damaged, or holds more than tensors and plain values ' \
            f'({reason})'
    return (
        f'The checkpoint {name} cannot be loaded without running code from it: '
        f'{problem}. If you trust who made it, add {TRUST_FLAG} to the command (in '
        'Python: with mmcompress.openmmlab.checkpoints.loading(trust=True)).')
