"""A few images with the boxes that the dense and the compressed networks find."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import nn

from ..data.images import Batch
from ..files import write_text
from ..kinds import kind_of
from ..policy import Policy
from ..report.html import GALLERY
from ..session import Session

IMAGES, NETWORKS, THRESHOLD = 3, 3, 0.3
"""Images, compressed networks, and the lowest score of a box that is drawn."""
SIDE = 320
"""Longest side of a picture, in pixels."""
COLOURS = ('#2563eb', '#ea580c', '#059669', '#9333ea', '#db2777', '#ca8a04')


def write_gallery(
    session: Session, policies: Mapping[str, Policy], work_dir: Path
) -> None:
    """Draw the boxes of a detector's networks for the report; nothing for others.

    Args:
        session (Session): The dense model and the images that are scored.
        policies (Mapping[str, Policy]): Networks by name; the ends and the middle.
        work_dir (Path): Where the report is.
    """
    seen = _seen(session)
    if not seen:
        return
    names = list(policies)
    picked = dict.fromkeys(
        names[round(i * (len(names) - 1) / max(1, NETWORKS - 1))]
        for i in range(NETWORKS) if names)
    columns = [_pictures(session.model, seen)]
    columns += [_pictures(session.materialise(policies[n]), seen) for n in picked]
    write_text(work_dir / GALLERY, json.dumps(dict(
        names=['dense', *picked], images=list(zip(*columns)), threshold=THRESHOLD)))


def _seen(session: Session) -> list[Batch]:
    """The first images that the dense detector finds something in, one by one."""
    found: list[Batch] = []
    for batch in session.evaluator.scoring:
        for i, sample in enumerate(_predicted(session.model, batch)):
            boxes = getattr(sample, 'pred_instances', None)
            if not hasattr(boxes, 'bboxes') or not hasattr(sample, 'img_path'):
                return []  # of no detector, or of images that are in no file
            if (boxes.scores >= THRESHOLD).any():
                found.append(Batch(batch.inputs[i:i + 1], batch.data_samples[i:i + 1]))
            if len(found) == IMAGES:
                return found
    return found


@torch.no_grad()
def _predicted(model: nn.Module, batch: Batch) -> list:
    predicted = kind_of(model).predict(model.eval(), batch)
    return predicted if isinstance(predicted, list) else [predicted]


def _pictures(model: nn.Module, seen: list[Batch]) -> list[str]:
    """The images with the boxes of a model: JPEGs in base64."""
    return [_picture(_predicted(model, batch)[0]) for batch in seen]


def _picture(sample) -> str:
    image = Image.open(sample.img_path).convert('RGB')
    scale = min(1.0, SIDE / max(image.size))
    image = image.resize([max(1, round(n * scale)) for n in image.size])
    draw, found = ImageDraw.Draw(image), sample.pred_instances
    for box, score, label in zip(found.bboxes, found.scores, found.labels):
        if score >= THRESHOLD:
            colour = COLOURS[int(label) % len(COLOURS)]
            left, top, right, bottom = (float(v) * scale for v in box)
            draw.rectangle((left, top, max(left, right), max(top, bottom)),
                           outline=colour, width=2)
            draw.text((left + 3, top + 1), f'{float(score):.2f}', fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', quality=75)
    return base64.b64encode(buffer.getvalue()).decode()
