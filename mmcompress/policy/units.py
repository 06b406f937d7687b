"""What can be decided in a network: channel units and layers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

OUT, IN = 'out', 'in'


@dataclass(frozen=True, eq=False)
class Member:
    """Where the channels of a unit live on one side of one layer.

    Args:
        layer (str): Dotted path of a module (or of a bare parameter).
        side (str): ``'out'`` for the axis a layer produces (also the only axis
            of a norm), ``'in'`` for the axis it consumes.
        positions (np.ndarray): Integers of shape ``(width, count)``. Row j lists
            the positions on that axis that channel j of the unit occupies.
            ``count`` exceeds 1 where one channel feeds several positions, e.g. a
            linear layer behind a flattened feature map, or a group of channels
            that a ``GroupNorm`` ties together.
    """

    layer: str
    side: str
    positions: np.ndarray

    def __post_init__(self) -> None:
        assert self.side in (OUT, IN)
        assert self.positions.ndim == 2

    @property
    def count(self) -> int:
        """Number of positions that one channel of the unit occupies."""
        return self.positions.shape[1]


@dataclass(frozen=True, eq=False)
class ChannelUnit:
    """Channels, spread over several layers, kept or removed together.

    Args:
        name (str): Path of the first layer that produces the channels; ``#n`` is
            appended where one layer produces channels of several units.
        members (tuple[Member, ...]): Every place that holds these channels. All
            members have the same number of rows, the dense width.
        granularity (int): Real channels per unit channel: 8 where a GroupNorm
            makes 8 channels live and die together, 1 for most units.
    """

    name: str
    members: tuple[Member, ...]
    granularity: int = 1

    def __post_init__(self) -> None:
        assert self.members, f'unit {self.name} has no members'
        assert len({len(m.positions) for m in self.members}) == 1

    @property
    def width(self) -> int:
        """Dense number of channels of the unit."""
        return len(self.members[0].positions)

    @property
    def producers(self) -> tuple[Member, ...]:
        """Members on the output side of a layer."""
        return tuple(m for m in self.members if m.side == OUT)


@dataclass(frozen=True)
class Layer:
    """A conv, linear or transposed conv, with what its cost depends on.

    Args:
        name (str): Dotted module path (the first one, if it is shared).
        kind (str): ``'conv'``, ``'conv_transpose'`` or ``'linear'``.
        out_channels, in_channels (int): Dense sizes.
        groups (int): Groups of the dense layer.
        kernel (int): Elements of the kernel window, 1 for a linear layer.
        has_bias (bool): Whether the layer owns a bias of ``out_channels``.
        positions (int): Window positions at which the layer is applied to one
            image, summed over all calls: a head shared by five pyramid levels
            counts every level here, and its parameters once.
        calls (int): How often the layer runs on one image.
        reads, writes (int): Elements per channel of its largest input and output.
        attention (str): Path of an attention for every head of which it is applied;
            ``positions``, ``reads`` and ``writes`` are of all of them. Defaults
            to '': it is in none.
        heads (int): How many heads that has. Defaults to 1.
    """

    name: str
    kind: str
    out_channels: int
    in_channels: int
    groups: int = 1
    kernel: int = 1
    has_bias: bool = False
    positions: int = 1
    calls: int = 1
    reads: int = 1
    writes: int = 1
    attention: str = ''
    heads: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the dense layer on one image."""
        return self.positions * self.weights

    def within_groups(self, member: Member) -> bool:
        """Whether all groups lose the same with a channel, instead of one as a whole.

        Args:
            member (Member): On this layer.
        """
        dense = self.out_channels if member.side == OUT else self.in_channels
        size = dense // self.groups
        whole = size * len(np.unique(member.positions[0] // size))
        return self.groups > 1 and member.count < whole

    @property
    def weights(self) -> int:
        """Elements of the dense weight."""
        return self.kernel * self.out_channels * self.in_channels // self.groups


@dataclass(frozen=True, eq=False)
class ModelGraph:
    """Everything that searching a model needs to know about it.

    Args:
        units (tuple[ChannelUnit, ...]): Prunable units in execution order.
        layers (tuple[Layer, ...]): Conv and linear layers in execution order.
        params (int): All parameters of the dense model.
        norm_params (dict[str, int]): Parameters per channel of every member that is
            not in ``layers`` (2 for an affine norm), by member name.
        input_shape (tuple[int, ...]): ``(C, H, W)`` the costs refer to.
        fingerprint (str): Hash of the parameter names and shapes.
        trace_shape (tuple[int, ...]): ``(C, H, W)`` of the smaller image on which
            the units were found and are verified.
        excluded (dict[str, str]): Units left out and why.
        unsupported (dict[str, int]): Operators whose MACs are not counted, with
            the number of calls.
        unvisited (tuple[str, ...]): Layers that nothing traced ever called.
        auxiliary (tuple[str, ...]): Layers that only the training loss calls. They lose
            the inputs that units lose; they cost parameters, and keep their outputs.
        fixed_macs (int): MACs of products with parameters that no layer's forward
            computes (a kernel that arithmetic uses); no unit shrinks them.
    """

    units: tuple[ChannelUnit, ...]
    layers: tuple[Layer, ...]
    params: int
    norm_params: dict[str, int]
    input_shape: tuple[int, ...]
    fingerprint: str
    trace_shape: tuple[int, ...] = ()
    excluded: dict[str, str] = field(default_factory=dict)
    unsupported: dict[str, int] = field(default_factory=dict)
    unvisited: tuple[str, ...] = ()
    auxiliary: tuple[str, ...] = ()
    fixed_macs: int = 0

    def unit(self, name: str) -> ChannelUnit:
        """Return the unit called ``name``."""
        return {u.name: u for u in self.units}[name]

    @property
    def governed(self) -> float:
        """Share of the dense MACs in layers that some unit can shrink."""
        touched = {m.layer for u in self.units for m in u.members}
        total = sum(layer.macs for layer in self.layers) + self.fixed_macs
        inside = sum(layer.macs for layer in self.layers
                     if layer.name in touched or layer.attention in touched)
        return inside / total if total else 0.0

    def without(self, reasons: dict[str, str]) -> ModelGraph:
        """Return the graph with the units named in ``reasons`` left out."""
        return replace(
            self,
            units=tuple(u for u in self.units if u.name not in reasons),
            excluded={**self.excluded, **reasons},
        )

    def describe(self) -> str:
        """One paragraph on what can be pruned."""
        lines = [f'{len(self.units)} channel units govern {self.governed:.1%} of the '
                 f'MACs at input {"x".join(map(str, self.input_shape))}; '
                 f'{len(self.excluded)} units left out.']
        if self.unsupported:
            lines.append(f'MACs not counted: {self.unsupported}.')
        if self.auxiliary:
            lines.append(f'Layers that only training calls: {self.auxiliary}.')
        if self.unvisited:
            lines.append('Layers the forward pass never calls, which may not fit fewer '
                         f'channels: {self.unvisited}.')
        return ' '.join(lines)
