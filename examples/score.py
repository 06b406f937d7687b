"""What predictions are worth, for the other examples; COCO's measure needs pycocotools.

Nothing here depends on how a file was made.
"""
from pathlib import Path

import numpy as np


def score(found, classes, truth=None):
    """Print predictions or, given the truth, metrics as mmdet and mmpretrain have them.

    Args:
        found (dict): By the name of an image, rows of left, top, right, bottom, score
            and class in its pixels, or a row of scores by class.
        classes (list): Names of the classes.
        truth (str): COCO annotations (.json), or lines of "image number-of-its-class".

    Returns:
        dict: The metrics.
    """
    metrics = {}
    if truth is None:
        for name, rows in found.items():
            print(name, *rows.tolist(), sep='\n  ')
    elif truth.endswith('.json'):
        names = 'mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l'
        metrics = {f'coco/bbox_{name}': float(value) for name, value in zip(
            names, average_precisions(found, classes, truth))}
    else:
        labels = dict(line.split() for line in Path(truth).read_text().splitlines())
        hits = [found[name].argmax() == int(label) for name, label in labels.items()]
        # In 32 bits, as mmpretrain computes it.
        metrics['accuracy/top1'] = float(
            np.float32(sum(hits)) * np.float32(100 / len(hits)))
    for name, value in metrics.items():
        print(name, value)
    return metrics


def average_precisions(found, classes, annotations):
    """COCO's statistics of boxes."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(annotations)
    ids = {entry['name']: entry['id'] for entry in truth.dataset['categories']}
    boxes = [
        dict(image_id=image['id'], category_id=ids[classes[int(kind)]], score=score,
             bbox=[left, top, right - left, bottom - top])
        for image in truth.dataset['images']
        for left, top, right, bottom, score, kind in found[image['file_name']].tolist()]
    judge = COCOeval(truth, truth.loadRes(boxes), 'bbox')
    judge.params.maxDets = [100, 300, 1000]  # mmdet's
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return judge.stats
