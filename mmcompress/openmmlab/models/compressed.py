"""The builder of compressed models."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn

from ...arithmetic.slices import take
from ...errors import CompressionError, PolicyError
from ...graph import trace
from ...layers.rule import sliced
from ...policy import IN, OUT, Policy
from ...policy.files import PolicyFile
from ...quant.calibration import shared_inputs
from ...quant.points import add_file_points
from ...registry import MODELS
from ...surgery.heads import call_layers
from ...surgery.materialise import check_policy, materialise
from ...surgery.quantise import make_quantisable
from ...surgery.selection import Selection


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
    graph = trace(model, file.input_shape)
    file.check_model(graph.fingerprint, type(model).__name__)
    check_policy(graph, file.policy, file.channels)
    selection = Selection(model, graph)
    channels = {**selection.of_policy(file.policy), **file.channels}
    loader = DenseCheckpointSlicer(model, selection, channels)
    materialise(model, graph, file.policy, channels, inplace=True)
    model._register_load_state_dict_pre_hook(loader)
    quantise(model, file.policy, graph.trace_shape, symmetric)
    if file.points:
        add_file_points(model, file.points, symmetric)
    return model


def quantise(
    model: nn.Module, policy: Policy, shape: tuple[int, ...], symmetric: bool = False
) -> None:
    """Put the layers of a policy at their bits, uncalibrated, in place.

    Layers that read the same tensor at the same bits share one quantiser, and with
    it one scale, also while it is learned.

    Args:
        model (nn.Module): The slim model.
        policy (Policy): The bits.
        shape (tuple[int, ...]): ``(C, H, W)`` of an image to find such layers with.
        symmetric (bool): See :func:`mmcompress.surgery.quantise.make_quantisable`.

    Raises:
        PolicyError: A layer that the model lacks or that cannot be quantised.
    """
    bits = {name: b for name, b in policy.bits.items() if not b.is_float}
    if not bits:
        return
    modules = dict(model.named_modules())
    if unknown := sorted(bits.keys() - modules.keys()):
        raise PolicyError(
            f'The policy gives bits to the layer {unknown[0]!r}, which this model does '
            'not have. Use a policy searched on this model.')
    call_layers(model)
    ready = make_quantisable(model, bits, symmetric)
    if missing := sorted(bits.keys() - set(ready)):
        raise PolicyError(
            f'The policy gives bits to the layer {missing[0]!r}, which cannot be '
            'quantised. Search again with the installed versions.')
    shared: dict[tuple, nn.Module] = {}
    for name, leader in shared_inputs(model, ready, shape).items():
        layer = modules[name]
        layer.input_quantizer = shared.setdefault(
            (leader, bits[name].activation), layer.input_quantizer)
    for name, choice in bits.items():
        modules[name].set_bits(choice)


def with_preprocessor(architecture: dict, data_preprocessor: dict | None) -> dict:
    """The config of a model with a data preprocessor, unless it has its own."""
    architecture = copy.deepcopy(architecture)
    if data_preprocessor is not None:
        architecture.setdefault('data_preprocessor', data_preprocessor)
    return architecture


class DenseCheckpointSlicer:
    """A load hook that slices tensors of the dense model on their way in.

    Args:
        model (nn.Module): The dense model, before it is made small.
        selection (Selection): Of that model.
        channels (Mapping[str, np.ndarray]): Kept channels by unit.
    """

    def __init__(
        self, model: nn.Module, selection: Selection, channels: Mapping[str, np.ndarray]
    ) -> None:
        every = list(model.named_modules(remove_duplicate=False))
        first = {module: name for name, module in reversed(every)}
        kept = selection.kept(channels)
        # A module shared by several parents is in the state dict once per parent.
        self._kept = {name: kept[first[module]] for name, module in every
                      if first[module] in kept}
        self._kept |= {name: sides for name, sides in kept.items() if '@' in name}
        self._shells = {name: _shell(module) for name, module in every
                        if name in self._kept}
        self._shapes = {k: v.shape for k, v in model.state_dict().items()}
        self._slim = {
            f'{name}.{key}': value.shape for name, module in every if name in self._kept
            for key, value in _sliced(module, self._kept[name]).items()
            if isinstance(value, Tensor)}

    def __call__(self, state_dict: dict, prefix: str, *_) -> None:
        """Replace dense tensors of ``state_dict`` by their slices.

        Raises:
            CompressionError: A tensor is neither dense nor of this policy.
        """
        self._slice(state_dict, prefix)
        for key, shape in self._slim.items():
            value = state_dict.get(prefix + key)
            if value is not None and value.shape != shape:
                raise CompressionError(
                    f'{key} of the checkpoint has shape {tuple(value.shape)}; this '
                    f'policy takes {tuple(shape)}, or {tuple(self._shapes[key])} of '
                    'the dense model. Load the checkpoint of the dense model or the '
                    'one that belongs to the policy file.')

    def _slice(self, state_dict: dict, prefix: str) -> None:
        for layer, sides in self._kept.items():
            if layer not in self._shells:
                path, axis = layer.rsplit('@', 1)
                self._replace(state_dict, prefix, {path: take(
                    self._dense(state_dict, prefix, path), int(axis), sides['out'])})
                continue
            shell = self._shells[layer]
            own = {name: self._dense(state_dict, prefix, f'{layer}.{name}')
                   for name in shell._parameters.keys() | shell._buffers.keys()}
            filled = _shell(shell)
            filled.__dict__.update(own)
            values = _sliced(filled, sides)
            self._replace(state_dict, prefix, {
                f'{layer}.{name}': values.get(name) for name in own})

    def _dense(self, state_dict: dict, prefix: str, key: str) -> Tensor | None:
        value = state_dict.get(prefix + key)
        dense = value is not None and value.shape == self._shapes.get(key)
        return value if dense else None

    @staticmethod
    def _replace(
        state_dict: dict, prefix: str, values: Mapping[str, Tensor | None]
    ) -> None:
        for key, value in values.items():
            if value is not None:
                state_dict[prefix + key] = value


def _sliced(module: nn.Module, sides: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return sliced(module, sides.get(OUT), sides.get(IN))


def _shell(module: nn.Module) -> nn.Module:
    """A copy of a layer's plain attributes, without its tensors."""
    shell = copy.copy(module)
    shell.__dict__.update(
        _parameters=dict.fromkeys(module._parameters),
        _buffers=dict.fromkeys(module._buffers), _modules={})
    return shell
