"""How far a model's outputs are from those of the dense one.

Neither distance needs labels, and of few images both tell policies apart that a metric
does not. Of a detector, that of the detections ranks policies more as mAP does; see
docs/measurements/quantisation.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..arithmetic.labels import tensors_in
from ..data.images import Batch
from ..errors import CompressionError
from ..kinds import kind_of

_OTHER_SHAPES = (
    'The distance from the dense model needs outputs of fixed shapes, which proposals '
    'of a two-stage detector are not; use the loss.')


class Reference:
    """Raw outputs of the dense model on some images, kept in memory.

    Args:
        model (nn.Module): The dense model as it is, in evaluation mode.
        batches (Sequence[Batch]): The images.
    """

    def __init__(self, model: nn.Module, batches: Sequence[Batch]) -> None:
        self.batches = batches
        self.outputs = [raw_outputs(model, batch) for batch in batches]
        self.variances = [
            float(torch.cat([x.double().flatten() for x in output]).var(unbiased=False))
            for output in zip(*self.outputs)]

    def distance(self, model: nn.Module) -> float:
        """Mean square difference over the variance, mean of the output tensors.

        An output of no variance is left out.

        Args:
            model (nn.Module): As the dense one, with outputs of the same shapes.

        Raises:
            CompressionError: Outputs of other shapes.
        """
        sums = [0.0] * len(self.variances)
        counts = [0] * len(self.variances)
        for batch, outputs in zip(self.batches, self.outputs):
            found = raw_outputs(model, batch)
            if [x.shape for x in found] != [x.shape for x in outputs]:
                raise CompressionError(_OTHER_SHAPES)
            for i, (x, wanted) in enumerate(zip(found, outputs)):
                sums[i] += float((x - wanted).double().square().sum())
                counts[i] += x.numel()
        shares = [total / count / variance for total, count, variance
                  in zip(sums, counts, self.variances) if variance > 0]
        return sum(shares) / len(shares)


@torch.no_grad()
def raw_outputs(model: nn.Module, batch: Batch) -> list[Tensor]:
    """The floating-point tensors that a model returns for a batch."""
    outputs = kind_of(model).raw(model, batch)
    return [x for x in tensors_in(outputs) if x.is_floating_point()]


class DetectionReference:
    """Boxes and scores of the dense detector on some images, before suppression.

    Args:
        model (nn.Module): The dense detector as it is, in evaluation mode.
        batches (Sequence[Batch]): The images.

    Raises:
        CompressionError: A model whose kind cannot decode its boxes.
    """

    def __init__(self, model: nn.Module, batches: Sequence[Batch]) -> None:
        if not kind_of(model).can_decode(model):
            raise CompressionError(
                f'The detections of {type(model).__name__} cannot be compared, those '
                'of one-stage detectors that decode as YOLOX, RetinaNet, FCOS or GFL '
                "can; use 'distance' or 'loss'.")
        self.batches = batches
        self.images = [list(detections(model, batch)) for batch in batches]

    def distance(self, model: nn.Module) -> float:
        """The share of score that changed, plus the share of overlap that was lost.

        With boxes ``b`` of priors ``p``, scores ``s`` of their classes ``c`` and the
        dense detector's, which have a star, summed over all images::

            sum_pc |s - s*| / sum_pc s*  +  sum_p w (1 - IoU(b, b*)) / sum_p w

        where ``w = max_c s*``: boxes count as far as the dense detector believes in
        them.

        Args:
            model (nn.Module): As the dense one, with outputs of the same shapes.

        Raises:
            CompressionError: Outputs of other shapes, or a dense detector that
                detects nothing.
        """
        changed = total = lost = weight = 0.0
        for batch, images in zip(self.batches, self.images):
            for (boxes, scores), (wanted, believed) in zip(
                    detections(model, batch), images):
                if boxes.shape != wanted.shape:
                    raise CompressionError(_OTHER_SHAPES)
                best = believed.amax(0).double()
                changed += float((scores - believed).abs().double().sum())
                total += float(believed.double().sum())
                lost += float((best * (1 - overlaps(boxes, wanted).double())).sum())
                weight += float(best.sum())
        if not total:
            raise CompressionError(
                'The dense detector finds nothing on the images; load its checkpoint '
                'or take other images.')
        return changed / total + lost / weight


REFERENCES: Mapping[str, type] = dict(
    distance=Reference, detections=DetectionReference)
"""What measures a distance from the dense model, by the name of the distance."""


def reference_of(
    model: nn.Module, batches: Sequence[Batch], measure: str | None = None
) -> Reference | DetectionReference:
    """What the dense model as it is says about some images.

    Args:
        model (nn.Module): The dense model.
        batches (Sequence[Batch]): The images.
        measure (str | None): One of :data:`REFERENCES`. Defaults to None: detections
            where the model's can be compared, else raw outputs.
    """
    usual = 'detections' if kind_of(model).can_decode(model) else 'distance'
    return REFERENCES[measure or usual](model, batches)


@torch.no_grad()
def detections(model: nn.Module, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
    """Boxes ``(P, 4)`` and scores ``(C, P)`` of all priors, image by image."""
    kind = kind_of(model)
    outputs = kind.raw(model, batch)
    for i in range(len(batch.inputs)):
        own = [[level[i:i + 1] for level in levels] for levels in outputs]
        boxes, scores = kind.decode(model, batch.inputs[i:i + 1], own)
        yield boxes[0], scores[0]


def overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU of each box with the one at the same place, ``(P,)``.

    Args:
        boxes, others (Tensor): ``(P, 4)``: left, top, right and bottom.
    """
    def area(corners: Tensor) -> Tensor:
        return (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])

    sides = (torch.minimum(boxes[:, 2:], others[:, 2:])
             - torch.maximum(boxes[:, :2], others[:, :2])).clamp(min=0)
    common = sides[:, 0] * sides[:, 1]
    return common / (area(boxes) + area(others) - common).clamp(min=1e-6)
