"""Giving layers their quantised type, in place."""

from __future__ import annotations

from collections.abc import Iterable

from mmengine.logging import print_log
from torch import nn

from ..layers.quantised import QuantLayer
from ..layers.rule import obstacle, rule_of


def make_quantisable(
    model: nn.Module, names: Iterable[str], symmetric: bool = False
) -> tuple[str, ...]:
    """Turn layers into their quantised type, at 32 bits, in place.

    The module objects stay, with their parameters, hooks and all references to them;
    their class changes. Layers that are quantised already are left as they are.

    Args:
        model (nn.Module): The model.
        names (Iterable[str]): Dotted paths of layers.
        symmetric (bool): See :class:`ActivationQuantizer`. Defaults to False.

    Returns:
        tuple[str, ...]: The layers that can be quantised now. The others stay in
        float, at WARNING.
    """
    modules = dict(model.named_modules())
    ready = []
    for name in names:
        module = modules[name]
        if not isinstance(module, QuantLayer):
            if reason := obstacle(module):
                print_log(
                    f'Layer {name!r} stays in float: {reason}.', 'current', level=30)
                continue
            module.__class__ = rule_of(module).quantised
            module.become_quantised(symmetric)
        ready.append(name)
    return tuple(ready)
