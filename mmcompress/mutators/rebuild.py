"""From a policy file and a dense model to the slim, quantised network."""

from __future__ import annotations

from torch import nn

from ..errors import PolicyError
from ..graph import trace
from ..policy import Policy
from ..policy.files import PolicyFile
from ..quant.calibration import shared_inputs
from ..quant.points import add_file_points
from ..surgery.dense_checkpoint import DenseCheckpointSlicer
from ..surgery.heads import call_layers
from ..surgery.materialise import check_policy, materialise
from ..surgery.quantise import make_quantisable
from ..surgery.selection import Selection


def rebuild(model: nn.Module, file: PolicyFile, symmetric: bool = False) -> nn.Module:
    """Make a dense model the network of a policy file, in place.

    Slim checkpoints load into it as they are, and those of the dense model too: their
    tensors are sliced on the way in. Quantised layers have no scales until a checkpoint
    or calibration gives them.

    Args:
        model (nn.Module): The dense model; its weights are sliced.
        file (PolicyFile): The policy.
        symmetric (bool): Keep the zero points of activations while training.
            Defaults to False.

    Returns:
        nn.Module: ``model``.

    Raises:
        PolicyError: The file belongs to another model.
    """
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
        symmetric (bool): See :func:`mmcompress.ops.make_quantisable`.

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
