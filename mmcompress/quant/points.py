"""Quantisers between the layers of a model, where its exported file has them.

A runtime computes a layer in integers only if its output is in integers too, so a file
quantises more tensors than the layers' inputs. A model with the same points computes
what the file computes, and learns with them when it is trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..arithmetic.quantizers import ActivationQuantizer
from ..errors import PolicyError
from ..policy.points import POINTS, PointSite

BITS = 8
"""Width of the points that only a file has."""


class FilePoints(nn.ModuleList):
    """The quantisers that no layer has; see :func:`add_file_points`.

    Args:
        sites (Sequence[PointSite]): Where they are, and where those of layers are.
        symmetric (bool): See :class:`ActivationQuantizer`. Defaults to False.

    Attributes:
        sites (tuple[PointSite, ...]): As given.
        calls (dict[str, int]): By module the calls since the forward pass began.
    """

    def __init__(self, sites: Sequence[PointSite], symmetric: bool = False) -> None:
        self.sites, self.calls = tuple(sites), {}
        own = {site.quantizer: site for site in sites if is_own(site)}
        if set(own) != {f'{POINTS}.{i}' for i in range(len(own))}:
            raise PolicyError(
                'The points between layers are not numbered from 0: the policy file '
                'is damaged. Export the network again.')
        super().__init__(ActivationQuantizer(symmetric) for _ in own)
        for site in own.values():
            quantizer = self[own_number(site)]
            quantizer.switch(BITS)
            if site.sigmoid:  # its range is known
                quantizer.requires_grad_(False)

    def restart(self, *_: Any) -> None:
        """Count calls from 0 again: a hook before the first module of a network."""
        self.calls.clear()

    def count(self, module: str) -> int:
        """The number of this call of a module."""
        number = self.calls.get(module, 0)
        self.calls[module] = number + 1
        return number


class SiteHook:
    """Quantises what a module returns.

    An object rather than a closure, so that a copy of the model has its own.

    Args:
        points (FilePoints): Counts the calls.
        module (str): Path of the module.
        sites (Iterable[tuple[PointSite, ActivationQuantizer]]): Those of the module.
    """

    def __init__(
        self, points: FilePoints, module: str,
        sites: Iterable[tuple[PointSite, ActivationQuantizer]],
    ) -> None:
        self.points, self.module = points, module
        self.sites = sorted(sites, key=lambda pair: not pair[0].sigmoid)

    def __call__(
        self, _: nn.Module, args: tuple[Tensor, ...], output: Tensor
    ) -> Tensor:
        """The output, quantised."""
        call = self.points.count(self.module)
        for site, quantizer in self.sites:
            if site.call != call or quantizer.is_float:
                continue
            if site.sigmoid:
                output = args[0] * quantizer(torch.sigmoid(args[0]))
            else:
                output = quantizer(output)
        return output


def is_own(site: PointSite) -> bool:
    """Whether a site's quantiser is one that no layer has."""
    return site.quantizer.startswith(f'{POINTS}.')


def own_number(site: PointSite) -> int:
    """Which entry of ``file_points`` a site's quantiser is."""
    return int(site.quantizer[len(POINTS) + 1:])


def file_points(model: nn.Module) -> FilePoints | None:
    """The points between a model's layers, if it has any."""
    return getattr(model, POINTS, None)


def add_file_points(
    model: nn.Module, sites: Sequence[PointSite], symmetric: bool = False
) -> FilePoints:
    """Quantise tensors between layers, at 8 bits, uncalibrated, in place.

    The quantisers become ``model.file_points``, so that the state dict has them. A
    forward pass is taken to begin with the call of ``model.backbone`` (of the model,
    if there is none), and to call modules in the same order every time.

    Args:
        model (nn.Module): Its layers are quantised already.
        sites (Sequence[PointSite]): Where.
        symmetric (bool): See :class:`ActivationQuantizer`. Defaults to False.

    Raises:
        PolicyError: The model lacks a module or quantiser that a site names.
    """
    points = FilePoints(sites, symmetric)
    setattr(model, POINTS, points)
    # Layers may share a quantiser, hence duplicates.
    modules = dict(model.named_modules(remove_duplicate=False))
    by_module: dict[str, list[tuple[PointSite, ActivationQuantizer]]] = {}
    for site in sites:
        if missing := {site.module, site.quantizer} - modules.keys():
            raise PolicyError(
                f'The policy file has a point at {min(missing)!r}, which this model '
                'does not have. Use the config that it was exported with.')
        by_module.setdefault(site.module, []).append((site, modules[site.quantizer]))
    for name, found in by_module.items():
        if any(site.sigmoid for site, _ in found):
            modules[name].inplace = False  # its input is read again
        modules[name].register_forward_hook(SiteHook(points, name, found))
    getattr(model, 'backbone', model).register_forward_pre_hook(points.restart)
    return points
