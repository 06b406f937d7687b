"""Places in a network between its layers."""

from __future__ import annotations

from dataclasses import dataclass

POINTS = 'file_points'
"""Attribute of a model that holds the quantisers between its layers."""


@dataclass(frozen=True)
class PointSite:
    """A tensor that a module returns, and what quantises it.

    Args:
        module (str): Dotted path of the module.
        quantizer (str): Dotted path of the quantiser: the input quantiser of a layer,
            or an entry of the model's ``file_points``.
        call (int): Which of the module's calls in one forward pass. Defaults to 0.
        sigmoid (bool): The module is a SiLU, and the tensor the sigmoid within it.
            Defaults to False.
    """

    module: str
    quantizer: str
    call: int = 0
    sigmoid: bool = False
