"""What happens to the pixels of an image before a network sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

UNKNOWN = 'the data pipeline was not given when the file was written'
"""Why nobody can prepare an image for a network that was exported by itself."""


@dataclass(frozen=True)
class Normalisation:
    """What a model does to an image itself.

    Args:
        mean, std (Sequence[float]): By channel, in the order that the network sees.
        swaps (bool): Whether the first and the last channel change places before.
            Defaults to False.
        padding (float): Value beside smaller images, after the normalisation. Defaults
            to 0.
    """

    mean: Sequence[float] = (0.0, 0.0, 0.0)
    std: Sequence[float] = (1.0, 1.0, 1.0)
    swaps: bool = False
    padding: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """What a data pipeline does to an image before the model normalises it.

    Args:
        colour_order (str | None): Of the image that is read: ``'BGR'``, ``'RGB'`` or
            ``'grey'``. Defaults to None: unknown.
        resize (Mapping | None): ``library`` and ``interpolation``; ``size``, height
            and width, or how they follow from those of the image: the largest factor
            by which the ``long`` and the ``short`` side are at most so long, and what
            is added before a product of it is cut off (``rounding``). ``rule`` is its
            name. Defaults to None: not resized.
        crop (Sequence[int] | None): Height and width of the part that is cut out of
            the centre. Defaults to None: not cropped.
        padding (Sequence[float] | None): Values that fill the image up at the bottom
            and on the right, by channel as read. Defaults to None: not padded here.
        unclear (Sequence[str]): Steps that this record cannot express.
    """

    colour_order: str | None = None
    resize: Mapping[str, Any] | None = None
    crop: Sequence[int] | None = None
    padding: Sequence[float] | None = None
    unclear: Sequence[str] = field(default=(UNKNOWN,))

    @property
    def border(self) -> str:
        """Where boxes end that a model clips: at the border of the ``'image'`` as it
        was resized, or of the ``'input'`` if the pipeline has padded it before."""
        return 'image' if self.padding is None else 'input'


def preprocessing_facts(
    normalisation: Normalisation | None, recipe: Recipe
) -> dict[str, Any]:
    """All steps from an image to the input of a network, as plain data.

    The values that the image is padded with are pixels, in the order of channels that
    the network sees: padding comes before the normalisation.

    Args:
        normalisation (Normalisation | None): What the model does; None if unknown.
        recipe (Recipe): What comes before.

    Returns:
        dict: ``layout``, ``colour_order``, ``resize``, ``crop``, ``padding``,
        ``scale``, ``mean``, ``std``, and in ``unclear`` what they do not tell.
    """
    unclear, own = list(recipe.unclear), normalisation
    if own is None:
        unclear.append('the model does not say how it normalises images')
        own = Normalisation((), ())
    order = recipe.colour_order
    if own.swaps:
        order = dict(BGR='RGB', RGB='BGR').get(order, order)
    padding = [own.padding * s + m for m, s in zip(own.mean, own.std)] \
        if recipe.padding is None else list(recipe.padding)[::-1 if own.swaps else 1]
    crop = recipe.crop and dict(size=list(recipe.crop), position='centre')
    return dict(
        layout='NCHW', colour_order=order, resize=recipe.resize, crop=crop,
        padding=dict(value=padding, position='bottom right', border=recipe.border),
        scale=1.0,
        mean=list(own.mean), std=list(own.std), unclear=unclear)
