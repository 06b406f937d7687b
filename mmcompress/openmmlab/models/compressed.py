"""The builder of compressed models."""

from __future__ import annotations

import copy
import os

from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import nn

from ...mutators.rebuild import rebuild
from ...policy.files import PolicyFile
from ...registry import MODELS


@MODELS.register_module()
def Compressed(
    architecture: dict,
    policy: str | os.PathLike,
    data_preprocessor: dict | None = None,
    symmetric: bool = False,
) -> nn.Module:
    """Build the slim, quantised model of a policy: a plain detector or classifier.

    There is no wrapper and no change of state-dict keys. Slim checkpoints load as
    they are; a checkpoint of the dense model loads too, and its tensors are sliced
    on the way in, so ``load_from`` may name the one from the model zoo. Quantised
    layers add their scales to the state dict and nothing else; a checkpoint without
    scales must be calibrated, which ``tools/train.py`` does.

    Args:
        architecture (dict): Config of the dense model.
        policy (str | os.PathLike): Policy file.
        data_preprocessor (dict | None): The one of the config's top level, which
            mmengine hands to every model; the architecture's own goes first.
        symmetric (bool): Keep the zero points of activations while training.
            Defaults to False.

    Returns:
        nn.Module: An instance of the architecture's own class.

    Raises:
        PolicyError: The file is damaged or belongs to another model.
        CompressionError: While loading: a checkpoint is neither of the dense model
            nor of this policy.
    """
    file = PolicyFile.load(policy)
    model = MMENGINE_MODELS.build(with_preprocessor(architecture, data_preprocessor))
    return rebuild(model, file, symmetric)


def with_preprocessor(architecture: dict, data_preprocessor: dict | None) -> dict:
    """The config of a model with a data preprocessor, unless it has its own."""
    architecture = copy.deepcopy(architecture)
    if data_preprocessor is not None:
        architecture.setdefault('data_preprocessor', data_preprocessor)
    return architecture
