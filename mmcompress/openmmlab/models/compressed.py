"""The builder of compressed models."""

from __future__ import annotations

import os
from typing import Any

from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import nn

from ...mutators.rebuild import rebuild
from ...policy.files import PolicyFile
from ...registry import MODELS
from .architecture import overridden, with_preprocessor


@MODELS.register_module()
def Compressed(
    architecture: dict,
    policy: str | os.PathLike,
    data_preprocessor: dict | None = None,
    symmetric: bool = False,
    **overrides: Any,
) -> nn.Module:
    """Build the slim, quantised model of a policy: a plain detector or classifier.

    There is no wrapper and no change of state-dict keys. Slim checkpoints load as
    they are; a checkpoint of the dense model loads too, and its tensors are sliced
    on the way in, so ``load_from`` may name the one from the model zoo. Quantised
    layers add their scales to the state dict and nothing else; a checkpoint without
    scales must be calibrated, which ``tools/train.py`` does.

    OpenMMLab's tools and users change parts of a model's config where these usually
    are, beside ``type``: ``mmdet.apis.init_detector`` reads ``model.backbone`` and
    sets its ``init_cfg``. Such keys are merged into the architecture. mmdet insists on
    ``backbone``; an empty dict changes nothing.

    Args:
        architecture (dict): Config of the dense model.
        policy (str | os.PathLike): Policy file.
        data_preprocessor (dict | None): The one of the config's top level, which
            mmengine hands to every model; the architecture's own goes first.
        symmetric (bool): Keep the zero points of activations while training.
            Defaults to False.
        overrides (Any): Parts of the architecture that replace its own: dicts go into
            its dicts, key by key.

    Returns:
        nn.Module: An instance of the architecture's own class.

    Raises:
        PolicyError: The file is damaged or belongs to another model.
        CompressionError: While loading: a checkpoint is neither of the dense model
            nor of this policy.
    """
    file = PolicyFile.load(policy)
    model = MMENGINE_MODELS.build(
        with_preprocessor(overridden(architecture, overrides), data_preprocessor))
    return rebuild(model, file, symmetric)
