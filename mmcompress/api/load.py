"""Opening what a search has left, later and elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from ..data.items import as_batch
from ..errors import CompressionError
from ..kinds import declare_kind
from ..mutators.rebuild import rebuild
from ..options import checking
from ..policy.files import PolicyFile
from ..surgery.copies import copy_of
from .family import Family
from .functions import FunctionKind


@checking
def load(
    work_dir: str | Path,
    model: nn.Module,
    *,
    inputs: Any = None,
    forward: Callable[[nn.Module, Any], Any] | None = None,
) -> Family:
    """Open the networks of a finished search.

    Nothing is unpickled: networks are rebuilt from the dense model's code, the policy
    files and their weights.

    Args:
        work_dir: What :func:`mmcompress.searchers` or ``tools/search.py`` wrote to:
            ``'out'``.
        model: A dense model of the architecture that was searched; its weights do not
            matter and do not change: ``model=resnet18()``.
        inputs: A batch that it runs on, if it takes more than a tensor of images.
        forward: As for :func:`mmcompress.prepare`.

    Returns:
        Family: The networks by name.

    Raises:
        DataError: There is no search in the folder.
        PolicyError: The networks belong to another model.

    Example:
        >>> slim = mmc.load('out', model=resnet18())['macs_0.5'].model
    """
    if forward is not None or inputs is not None:
        if inputs is None:
            raise CompressionError('forward=... needs inputs=..., a batch to run on.')
        batch = as_batch(inputs, torch.device('cpu'))
        declare_kind(model, FunctionKind(batch, forward))

    def builder(path: Path) -> Callable[[], nn.Module]:
        return lambda: _network(model, path)

    return Family(Path(work_dir), builder)


def _network(model: nn.Module, path: Path) -> nn.Module:
    """The network of a policy file, with the weights beside it."""
    weights = path.with_suffix('.pth')
    if not weights.exists():
        raise CompressionError(
            f'There is no checkpoint {weights}; search with save_checkpoints on.')
    slim = rebuild(copy_of(model), PolicyFile.load(path))
    try:
        state = torch.load(weights, map_location='cpu', weights_only=True)
        slim.load_state_dict(state['state_dict'])
    except (OSError, RuntimeError, UnpicklingError, EOFError, LookupError, TypeError,
            AttributeError) as error:
        raise CompressionError(
            f'The checkpoint {weights} is damaged or of another network '
            f'({str(error).splitlines()[0] if str(error) else "it is empty"}); make it '
            'again by the search.') from error
    return slim.eval()
