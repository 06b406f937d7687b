"""Detectors that are told in words what to look for: GLIP and Grounding DINO of mmdet.

Their own ``forward(mode='tensor')`` knows no words, and so does not run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .inputs import class_of

WORDS = ('person', 'car', 'dog')
"""What is looked for in an image of which nothing is known."""


def is_grounded(model: nn.Module) -> bool:
    """Whether a detector takes a text with an image."""
    return isinstance(model, class_of('detectors.glip', 'GLIP')) or _is_dino(model)


def _is_dino(model: nn.Module) -> bool:
    return isinstance(model, class_of('detectors.grounding_dino', 'GroundingDINO'))


def captions(model: nn.Module, samples: Sequence[Any]) -> list[list[str]]:
    """Texts as the language model takes them, by image, for every round.

    A detector with a ``chunked_size`` looks for so many words at a time.

    Args:
        model (nn.Module): A detector of which :func:`is_grounded` is true.
        samples (Sequence[DetDataSample]): Those of its images, with ``text``.
    """
    found = [model.get_tokens_positive_and_prompts(
        sample.text, sample.get('custom_entities', False),
        sample.get('caption_prompt'), sample.get('tokens_positive'))[1]
        for sample in samples]
    if isinstance(found[0], str):
        return [found]
    return [list(texts) for texts in zip(*found, strict=True)]


def grounded_outputs(
    model: nn.Module, features: Sequence[Tensor], texts: list[str],
    samples: Sequence[Any],
) -> tuple[Any, ...]:
    """What the head returns of one round.

    Args:
        model (nn.Module): A detector of which :func:`is_grounded` is true.
        features (Sequence[Tensor]): Of the images, by level.
        texts (list[str]): By image.
        samples (Sequence[DetDataSample]): Those of the images.
    """
    told = model.language_model(texts)
    if not _is_dino(model):
        return model.bbox_head(features, told)
    if model.text_feat_map is not None:
        told['embedded'] = model.text_feat_map(told['embedded'])
    found = model.forward_transformer(features, told, samples)
    scores, boxes = model.bbox_head(**found)
    # Scores of what is no token are minus infinity, which has no error.
    mask = told['text_token_mask']
    scores = scores[..., :mask.shape[1]]
    return scores.masked_fill(~mask[:, None], 0), boxes
