"""Track heads of mmdet: what they say of objects, by features of the detector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ...surgery.shadow import shadowed
from .inputs import class_of

TRACKED = 100
"""Objects of a frame unless the detector says how many it keeps."""


def tracked_boxes(model: nn.Module) -> int:
    """Objects of a frame that a tracker's detector finds at most."""
    test_cfg = getattr(model.detector, 'test_cfg', None) or {}
    return (test_cfg.get('rcnn') or {}).get('max_per_img', TRACKED)


@contextmanager
def features_kept(detector: nn.Module) -> Iterator[list]:
    """Yield a list that what ``extract_feat`` of a detector returns is put into."""
    kept: list = []
    extract = detector.extract_feat

    def keeping(*args: Any) -> Any:
        kept.append(extract(*args))
        return kept[-1]

    with shadowed([(detector, dict(extract_feat=keeping))]):
        yield kept


def described(
    head: nn.Module, features: Sequence[Tensor], boxes: Sequence[Tensor]
) -> Any:
    """What a track head says about objects of a frame.

    One that compares them with those of the frame before describes these anew: the same
    objects stand for them.

    Args:
        head (nn.Module): ``QuasiDenseTrackHead`` or ``RoITrackHead``.
        features (Sequence[Tensor]): Of the detector, by level.
        boxes (Sequence[Tensor]): By image, ``(n, 4)`` in pixels.
    """
    found = head.extract_roi_feats(features, boxes)
    if isinstance(head, class_of('tracking_heads.roi_track_head', 'RoITrackHead')):
        regions, counts = found
        return head.embed_head(regions, regions, counts, counts)
    return head.embed_head(found)
