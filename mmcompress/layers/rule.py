"""What the core asks about one kind of layer, and the register of kinds.

All that the core does to layers goes through their rules: it never looks at their
classes or attributes. A new kind is one :class:`LayerRule` and one call of
:func:`register_rule`, on a page of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..arithmetic.labels import LabelTracer
from ..arithmetic.slices import Kept, size_of
from ..policy import IN, OUT
from .quantised import QuantLayer


class LayerRule:
    """Everything about one kind of layer that the core needs.

    A rule knows no module: each method is told it. There are three sorts of rules. That
    of a **layer with MACs** has a ``kind``: its outputs are sums over its input
    channels, and it says :meth:`slice`. **What passes channels on**, e.g. a norm, has
    one axis, the outputs (:class:`mmcompress.layers.norm.ChannelwiseRule`). A
    **container** (``whole = False``) is followed through the layers inside it, and only
    adds to what is known about these.

    Attributes:
        kind (str): Of :class:`mmcompress.policy.Layer`: ``'conv'``,
            ``'conv_transpose'`` or ``'linear'``. Defaults to '': no MACs.
        inputs, outputs (str): Attributes of the layer that are its numbers of channels.
            Default to 'in_channels' and 'out_channels'.
        quantised (type[QuantLayer] | None): The type that computes the same with
            quantised inputs and weights. Defaults to None: stays in float.
        whole (bool): Whether labels are followed by this rule, not through the
            operators inside. Defaults to True.
        closed (bool): Whether that also holds for the layers inside it. Defaults to
            False: layers inside that have rules are followed too.
        parts (tuple[str, ...]): Layers inside, by path, that :meth:`follow` ties as
            well. They are not followed on their own; an instance may lack some.
            Defaults to none.
        even (tuple[str, ...]): Convs inside, by path, whose groups are added up
            afterwards and must lose the same channels. Defaults to none.
        balanced (tuple[str, ...]): Convs inside, by path, whose groups stay. All lose
            the same of their inputs, and as many outputs at places of their own.
            Defaults to none.
        arranges (bool): Whether the code of a container cuts or shuffles channels by
            numbers that the rule answers for: :meth:`follow` ties what leaves together
            when the container has run, and :meth:`slice` gives the numbers that shrink.
            Defaults to False.
        operator (str): Of an activation, the operator of its own that it is in a file.
            Defaults to '': a runtime computes it with the layer before.
    """

    kind = ''
    inputs, outputs = 'in_channels', 'out_channels'
    quantised: type[QuantLayer] | None = None
    whole = True
    closed = False
    parts: tuple[str, ...] = ()
    even: tuple[str, ...] = ()
    balanced: tuple[str, ...] = ()
    arranges = False
    operator = ''

    # -- axes ----------------------------------------------------------------
    def in_size(self, module: nn.Module) -> int:
        """Channels that it reads."""
        return getattr(module, self.inputs)

    def out_size(self, module: nn.Module) -> int:
        """Channels that it makes or passes on."""
        return getattr(module, self.outputs)

    def sizes(self, module: nn.Module, out: Kept, into: Kept) -> dict[str, int]:
        """The two attributes when only some channels are kept."""
        return {self.inputs: size_of(into, self.in_size(module)),
                self.outputs: size_of(out, self.out_size(module))}

    def channel_axis(self, module: nn.Module, x: Tensor) -> int:
        """The axis of the channels of an input or output. Defaults to 1."""
        return 1

    # -- removing channels ---------------------------------------------------
    def follow(
        self, module: nn.Module, tracer: LabelTracer, name: str, x: Tensor, out: Tensor
    ) -> None:
        """Tie the axes of a layer that has just run, and label its output.

        Defaults to a layer with MACs whose outputs read all of its inputs.

        Args:
            module (nn.Module): The layer.
            tracer (LabelTracer): Holds the labels.
            name (str): Dotted path of the layer.
            x (Tensor): Its (first) input.
            out (Tensor): Its output.
        """
        tracer.consume(name, IN, x, self.channel_axis(module, x))
        made = tracer.block(name, OUT, self.out_size(module))
        tracer.emit(out, self.channel_axis(module, out), made.atoms)

    def slice(self, module: nn.Module, out: Kept, into: Kept) -> dict[str, Any]:
        """Attributes of the layer when only some channels are kept.

        Args:
            module (nn.Module): The dense layer.
            out, into (np.ndarray | None): Kept positions of its axes, None for all.

        Returns:
            dict[str, Any]: Attribute name to its new value; tensors may be views.
        """
        raise TypeError(f'No slicing rule for {type(module).__name__}.')

    def mask(self, module: nn.Module, gone: np.ndarray) -> Callable[..., Tensor] | None:
        """A forward of the dense layer in which the removed channels take no part.

        Defaults to the layer's own with zeros in its input, if it has MACs, and to None
        otherwise: it treats each channel independently. What normalises over channels
        must leave the removed ones out.

        Args:
            module (nn.Module): The dense layer.
            gone (np.ndarray): Removed channels: those a layer with MACs reads, or those
                a norm passes on, which become zero.
        """
        forward = partial(_on_zeros, self, module, module.forward, gone)
        return forward if self.kind else None

    def params_per_channel(self, module: nn.Module) -> int:
        """Parameters that go with one channel of a layer without MACs."""
        return sum(p is not None for p in module._parameters.values())

    # -- cost ----------------------------------------------------------------
    def groups(self, module: nn.Module) -> int:
        """Groups of a layer with MACs."""
        return getattr(module, 'groups', 1)

    def window_size(self, module: nn.Module) -> int:
        """Elements of its window. Defaults to 1."""
        return 1

    def hidden_macs(self, module: nn.Module, out: Tensor) -> int:
        """MACs of a call with that output which no dispatcher sees. Defaults to 0."""
        return 0

    def positions(self, read: int, written: int) -> int:
        """At how many positions the window is applied.

        Args:
            read, written (int): Elements per channel of input and output.
        """
        return written

    def output(self, module: nn.Module, x: Tensor) -> Tensor | None:
        """Zeros of the output's shape, to save the arithmetic. Defaults to None."""
        return None

    def geometry(self, module: nn.Module, x: Tensor) -> dict[str, tuple[int, ...]]:
        """Sizes of one call besides its channels, for a measurement of its time.

        Args:
            module (nn.Module): A layer with MACs.
            x (Tensor): Its input.

        Returns:
            dict[str, tuple[int, ...]]: ``size`` of the input; for a convolution also
            its ``kernel``, ``stride``, ``padding`` and ``dilation``.
        """
        return dict(size=(x.numel() // self.in_size(module),))

    def is_regular(self, module: nn.Module) -> bool:
        """Whether :meth:`geometry` says it all: padding is zeros, and in numbers."""
        return True

    def activation(self, module: nn.Module) -> nn.Module | None:
        """What a container applies to its layers' outputs. Defaults to None."""
        return None

    # -- weights -------------------------------------------------------------
    def weight(self, module: nn.Module) -> Tensor | None:
        """What a layer with MACs multiplies by; None if that is computed."""
        return module._parameters.get('weight')

    def resizable(self, module: nn.Module) -> bool:
        """Whether :meth:`slice` reaches all that a layer with MACs multiplies by.

        Defaults to whether that is a parameter. A rule that slices what it is computed
        from says so here.
        """
        return self.weight(module) is not None

    def obstacle(self, module: nn.Module) -> str:
        """Why a layer cannot have the quantised type; empty if it can."""
        computed = self.weight(module) is None
        return 'its weight is computed, not a parameter' if computed else ''

    def has_bias(self, module: nn.Module) -> bool:
        """Whether a layer with MACs has a bias."""
        return getattr(module, 'bias', None) is not None

    def by_output(self, module: nn.Module, weight: Tensor) -> Tensor:
        """A weight as ``(out, in per group, *window)``. Defaults to as it is."""
        return weight

    def from_output(self, module: nn.Module, rows: Tensor) -> Tensor:
        """Inverse of :meth:`by_output` for a layer without groups.

        Defaults to the same, which holds where it swaps two axes or none.
        """
        return self.by_output(module, rows)

    def window(self, module: nn.Module, into: Kept) -> Kept:
        """Of the kept inputs those that one group reads, None for all."""
        return into

    def mean_output(self, module: nn.Module, weight: Tensor, mean: Tensor) -> Tensor:
        """Means of the outputs, were ``weight`` the layer's weight; no bias.

        Args:
            module (nn.Module): The layer.
            weight (Tensor): In the layout of its own.
            mean (Tensor): ``(in,)``, means of the inputs.

        Returns:
            Tensor: ``(out,)``.
        """
        rows = self.by_output(module, weight)
        rows = rows.flatten(2).sum(2) if rows.dim() > 2 else rows
        groups = self.groups(module)
        rows = rows.reshape(groups, -1, rows.shape[1])
        return (rows * mean.reshape(groups, 1, -1)).sum(2).flatten()

    def pull(self, module: nn.Module, weight: Tensor, x: Tensor, gy: Tensor) -> Tensor:
        """Gradient of ``<layer(x), gy>`` for x, were ``weight`` the layer's weight."""
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            # The class's forward, since calling the module would run hooks again.
            y = type(module).forward(with_weight(module, weight), x)
            return torch.autograd.grad(y, x, gy)[0]

    def scale(self, module: nn.Module) -> Tensor | None:
        """By what a norm multiplies each channel. Defaults to None: it is no norm."""
        return None


def _on_zeros(
    rule: LayerRule, module: nn.Module, forward: Callable, gone: np.ndarray,
    x: Tensor, *args: Any, **kwargs: Any,
) -> Tensor:
    index = torch.as_tensor(gone, device=x.device)
    zeroed = x.index_fill(rule.channel_axis(module, x), index, 0.0)
    return forward(zeroed, *args, **kwargs)


def with_weight(module: nn.Module, weight: Tensor) -> nn.Module:
    """A shallow copy of a layer that computes with another weight."""
    twin = copy.copy(module)
    twin.__dict__['weight'] = weight  # found before the parameter
    return twin


# -- the register ------------------------------------------------------------
_RULES: dict[type, LayerRule] = {}

_PROVIDERS = {
    'mmcv': 'mmcompress.openmmlab.layers.mmcv_layers',
    'mmdet': 'mmcompress.openmmlab.layers.mmdet_layers',
    'mmpretrain': 'mmcompress.openmmlab.layers.mmpretrain_layers',
}
"""By package, the module that registers the rules of its layers. It is imported when
such a layer is first asked about: no other package is imported for its rules."""


def register_rule(cls: type[nn.Module], rule: LayerRule) -> None:
    """Say what the core needs to know about a class of layers.

    It holds for subclasses without a rule of their own, except for the quantised type:
    a subclass may compute its weight, or forward differently.

    Args:
        cls (type[nn.Module]): The class.
        rule (LayerRule): Its rule. Its quantised type gets the same.
    """
    _RULES[cls] = rule
    if rule.quantised:
        _RULES[rule.quantised] = rule
    _find.cache_clear()


def register_provider(package: str, module: str) -> None:
    """Name the module that registers the rules for the layers of a package.

    Args:
        package (str): First part of the ``__module__`` of its classes.
        module (str): Import path.
    """
    _PROVIDERS[package] = module


def rule_of(module: nn.Module | None) -> LayerRule | None:
    """The rule of a layer: that of the first class in its MRO that has one."""
    return _find(type(module))


@cache
def _find(cls: type) -> LayerRule | None:
    for base in cls.__mro__:
        package = base.__module__.partition('.')[0]
        if package in _PROVIDERS:
            import_module(_PROVIDERS[package])
            _PROVIDERS.pop(package, None)
    return next((_RULES[base] for base in cls.__mro__ if base in _RULES), None)


def is_layer(module: nn.Module | None) -> bool:
    """Whether the module is a layer with MACs: conv, transposed conv, linear."""
    rule = rule_of(module)
    return rule is not None and bool(rule.kind)


def is_followed(module: nn.Module) -> bool:
    """Whether the module's rule has a say in where labels go."""
    rule = rule_of(module)
    return rule is not None and (rule.whole or rule.arranges)


def even_convs(model: nn.Module) -> frozenset[str]:
    """Names of the convs whose groups all lose the same channels."""
    return frozenset(f'{name}.{conv}' for name, module in model.named_modules()
                     if (rule := rule_of(module)) for conv in rule.even)


def balanced_convs(model: nn.Module) -> frozenset[str]:
    """Names of the convs whose groups stay and lose equally many channels."""
    return frozenset(f'{name}.{conv}' for name, module in model.named_modules()
                     if (rule := rule_of(module)) for conv in rule.balanced)


def parts_of_layers(model: nn.Module) -> frozenset[str]:
    """Names of the layers that the rule of a layer around them follows."""
    return frozenset(f'{name}.{part}' for name, module in model.named_modules()
                     if (rule := rule_of(module)) for part in rule.parts)


def sliced(module: nn.Module, out: Kept, into: Kept) -> dict[str, Any]:
    """Attributes of a layer with some channels; see :meth:`LayerRule.slice`.

    Acting as a policy puts these values in front of the layer's own
    (:class:`mmcompress.surgery.shadow.Shadow`); materialising writes them for good
    (:func:`mmcompress.surgery.shadow.overwrite`). One rule serves both, so the two
    cannot disagree.

    Raises:
        TypeError: The layer has no rule.
    """
    values = (rule_of(module) or LayerRule()).slice(module, out, into)
    if isinstance(module, QuantLayer) and out is not None \
            and not module.weight_quantizer.is_float:
        # The scales of a weight go with its output channels.
        values['weight_quantizer'] = module.weight_quantizer.narrowed(out)
    return values


def obstacle(module: nn.Module) -> str:
    """Why a layer cannot be quantised; empty if it can."""
    rule, cls = rule_of(module), type(module)
    if cls not in _RULES or rule.quantised is None:
        return f'no quantised kind of {cls.__module__}.{cls.__qualname__}'
    return rule.obstacle(module)
