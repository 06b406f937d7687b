"""What quantisers must know about activations, from calibration images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from ..arithmetic.ranges import Sample, Symmetric, activation_range, weight_scales
from ..data.images import Batch
from ..errors import DataError
from ..graph.inputs import run
from ..kinds import kind_of
from ..layers.quantised import QuantLayer
from ..layers.rule import rule_of
from ..policy import FLOAT
from ..surgery.hooks import hooked
from ..surgery.modes import evaluating, in_float

VALUES = 2 ** 13
"""Values drawn from every input of a layer in every batch, besides the extremes."""


@dataclass
class InputStatistics:
    """What was seen at the input of one layer.

    Args:
        parts (list): Drawn values, the channel of each, and how many values each
            stands for.
        sums (Tensor): ``(C,)``, sum over everything but the channels.
        count (int): Elements per channel.
        variances (Tensor): ``(out,)``, of the outputs, summed over the calls.
    """

    parts: list[tuple[Tensor, Tensor, float]] = field(default_factory=list)
    sums: Tensor | float = 0.0
    count: int = 0
    variances: Tensor | float = 0.0

    @property
    def mean(self) -> Tensor:
        """Mean of every channel, ``(C,)``."""
        return self.sums / max(1, self.count)

    def update(self, x: Tensor, channel: int, generator: torch.Generator) -> None:
        """Take one input into account, its channels along axis ``channel``."""
        if x.numel() == 0:
            return
        axes = [i for i in range(x.dim()) if i != channel]
        self.sums = self.sums + x.double().sum(axes)
        self.count += x.numel() // x.shape[channel]
        flat, size = x.flatten(), x.numel()
        index = torch.arange(size) if size <= VALUES else torch.randint(
            size, (VALUES,), generator=generator)
        # The extremes stand for themselves.
        ends = torch.stack([x.argmin(), x.argmax()]).cpu()
        for places, share in ((index, size / len(index)), (ends, 1.0)):
            self.parts.append((
                flat[places.to(x.device)].clone(),
                torch.unravel_index(places, x.shape)[channel], share))

    def values(
        self, gains: Tensor | None = None
    ) -> list[tuple[Tensor, Tensor | float]]:
        """Drawn values with their weights, by :func:`output_gains` if given."""
        return [(values, share if gains is None else share * gains[channels])
                for values, channels, share in self.parts]


def output_gains(module: nn.Module, variances: Tensor) -> Tensor:
    """What an error of each input channel adds to the outputs over their variance.

    Args:
        module (nn.Module): A layer.
        variances (Tensor): ``(out,)`` of its outputs.

    Returns:
        Tensor: ``(in,)`` float64: squared weights over variances, summed over outputs
        and the window.
    """
    rule = rule_of(module)
    rows = rule.by_output(module, rule.weight(module).detach()).double()
    shares = rows.square().flatten(2).sum(2) / variances[:, None].clamp_min(1e-12)
    shares = shares.reshape(rule.groups(module), -1, shares.shape[1]).sum(1).flatten()
    return shares.cpu()


@torch.no_grad()
def observe(
    model: nn.Module, names: Sequence[str], batches: Sequence[Batch], seed: int = 0
) -> dict[str, InputStatistics]:
    """Run calibration images through the float model and watch layers.

    Args:
        model (nn.Module): In evaluation mode.
        names (Sequence[str]): Layers to watch.
        batches (Sequence[Batch]): Calibration images.
        seed (int): Seed of the values drawn. Defaults to 0.

    Raises:
        DataError: No images.
    """
    if not batches:
        raise DataError(
            'Quantisation needs calibration images; set calibration_images of the '
            'evaluator above 0.')
    modules = dict(model.named_modules())
    statistics = {name: InputStatistics() for name in names}
    generator = torch.Generator().manual_seed(seed)

    def watch(name: str, module: nn.Module, args: tuple, output: Tensor) -> None:
        axis = rule_of(module).channel_axis(module, args[0])
        seen = statistics[name]
        seen.update(args[0], axis, generator)
        rows = output.movedim(rule_of(module).channel_axis(module, output), 0)
        if rows[0].numel():
            seen.variances = seen.variances + rows.flatten(1).double().var(
                1, unbiased=False)

    with in_float(model), hooked(
            after={modules[name]: partial(watch, name) for name in names}):
        for batch in batches:
            kind_of(model).raw(model, batch)
    return statistics


@torch.no_grad()
def shared_inputs(
    model: nn.Module, names: Sequence[str], shape: tuple[int, ...]
) -> dict[str, str]:
    """Find layers that read the same tensor.

    They need one common range: a deployed network quantises the tensor once.

    Args:
        model (nn.Module): The model; run once on a random image.
        names (Sequence[str]): Layers to look at.
        shape (tuple[int, ...]): ``(C, H, W)`` of the image.

    Returns:
        dict[str, str]: By layer, the first layer of its group.
    """
    modules = dict(model.named_modules())
    leader = {name: name for name in names}
    readers: dict[tuple, str] = {}
    alive = []

    def find(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    def watch(name: str, _: nn.Module, args: tuple) -> None:
        x = args[0]
        alive.append(x)  # or its memory would be used again
        key = (x.data_ptr(), x._version, tuple(x.shape), x.stride())
        leader[find(name)] = find(readers.setdefault(key, name))

    with evaluating(model), in_float(model), hooked(
            before={modules[name]: partial(watch, name) for name in names}):
        run(model, shape)
    return {name: find(name) for name in names}


def samples(
    statistics: Mapping[str, InputStatistics], groups: Mapping[str, str],
    layers: Mapping[str, nn.Module] | None = None,
) -> dict[str, Sample]:
    """One sample for every group of layers, by the name of its first layer.

    Args:
        statistics (Mapping): Of :func:`observe`.
        groups (Mapping): By layer, the first one of its group.
        layers (Mapping | None): Layers to weigh values by what their errors add to the
            outputs, for the observer ``'output'``. Defaults to None: equal weights.
    """
    parts: dict[str, list] = {}
    for name, leader in groups.items():
        seen = statistics[name]
        if seen.parts:
            parts.setdefault(leader, []).extend(seen.values(
                layers and output_gains(layers[name], seen.variances)))
    return {leader: Sample.of(found) for leader, found in parts.items()}


def calibrate(
    model: nn.Module, layers: Mapping[str, QuantLayer], batches: Sequence[Batch],
    observer: str = 'mse', symmetric: Symmetric = False,
) -> None:
    """Give quantised layers scales for the bits they are at.

    Layers that share an input quantiser get the range of all their inputs.

    Args:
        model (nn.Module): In evaluation mode.
        layers (Mapping[str, QuantLayer]): Layers of the model to calibrate.
        batches (Sequence[Batch]): Calibration images.
        observer (str): See :data:`mmcompress.arithmetic.ranges.OBSERVERS`.
        symmetric (bool | str): See :func:`activation_range`.

    Raises:
        DataError: No images, or a layer that they never reach.
    """
    statistics = observe(model, list(layers), batches)
    first: dict[nn.Module, str] = {}
    groups = {name: first.setdefault(layer.input_quantizer, name)
              for name, layer in layers.items()}
    found = samples(statistics, groups, layers if observer == 'output' else None)
    for name, layer in layers.items():
        bits = layer.bits
        if bits.weight < FLOAT:
            layer.weight_quantizer.assign(
                weight_scales(layer.weight_rows(), bits.weight, observer))
        if bits.activation < FLOAT:
            if groups[name] not in found:
                raise DataError(
                    f'No calibration image reaches the layer {name!r}; take more '
                    'images.')
            layer.input_quantizer.assign(*activation_range(
                found[groups[name]], bits.activation, observer, symmetric))
