"""What the predictions of run_onnx.py and run_openvino.py are worth."""
from pathlib import Path


def score(found, classes, truth=None):
    """Print predictions; with annotations or labels, print and return a metric instead.

    Args:
        found (dict): By the name of an image, rows of left, top, right, bottom, score
            and class, or one row of scores by class.
        classes (list): Names of the classes.
        truth (str): COCO annotations (.json), or lines of "image number-of-the-class".
    """
    if truth is None:
        for name, rows in found.items():
            print(name, rows.tolist())
        return None
    if not truth.endswith('.json'):
        labels = dict(line.split() for line in Path(truth).read_text().splitlines())
        hits = [found[name].argmax() == int(label) for name, label in labels.items()]
        print('accuracy/top1', result := 100 * sum(hits) / len(hits))
        return result
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    coco = COCO(truth)
    ids = {entry['name']: entry['id'] for entry in coco.dataset['categories']}
    boxes = [dict(image_id=image['id'], category_id=ids[classes[int(kind)]],
                  bbox=[left, top, right - left, bottom - top], score=score)
             for image in coco.dataset['images']
             for left, top, right, bottom, score, kind in
             found[image['file_name']].tolist()]
    judge = COCOeval(coco, coco.loadRes(boxes), 'bbox')
    judge.params.maxDets = [100, 300, 1000]  # as mmdet asks for
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    print('coco/bbox_mAP', judge.stats[0])
    return judge.stats[0]
