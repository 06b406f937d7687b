"""Run the files of a Faster, Mask or Cascade R-CNN: run_two_stage.py NET.onnx FOLDER

``mmcompress export`` writes ``net.onnx``, which gives features and the outputs of the
RPN, and a file for each head: ``net.roi_head.onnx``, ``net.mask_head.onnx``; those of a
cascade are numbered. What lies between the files is here, in NumPy. The metadata of a
file say what it takes and gives; their ``decoding`` has all numbers that follow.

With ANNOTATIONS.json as a third argument the boxes are scored.
"""
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from score import score


class File:
    """A file and its metadata."""

    def __init__(self, path):
        self.session = onnxruntime.InferenceSession(str(path))
        facts = self.session.get_modelmeta().custom_metadata_map
        self.part, self.how, self.outputs, self.decoding, self.shape, self.classes = (
            json.loads(facts[key]) for key in (
                'part', 'preprocessing', 'outputs', 'decoding', 'shape', 'classes'))

    def __call__(self, x):
        """Outputs by their roles, of all levels."""
        found = {}
        [name] = [entry.name for entry in self.session.get_inputs()]
        for value, output in zip(self.session.run(None, {name: x}), self.outputs):
            found.setdefault(output['role'], []).append(value)
        return found


class Detector:
    """All files of a detector.

    Args:
        path (str): The first one; the others lie beside it.
    """

    def __init__(self, path):
        path = Path(path)
        self.first = File(path)
        others = sorted(path.parent.glob(f'{path.stem}.*.onnx'))
        parts = [File(other) for other in others]
        self.heads = [part for part in parts if part.part.startswith('roi_head')]
        self.masks = [part for part in parts if part.part.startswith('mask_head')]

    def __call__(self, image):
        """Detections of an image as it was read.

        Returns:
            tuple: Rows of left, top, right, bottom, score and class in pixels of the
            image, and a mask for each row, if there are heads for masks.
        """
        x, size, ratio = prepare(image, self.first)
        found = self.first(x)
        regions = propose(found, self.first, size)
        boxes, scores = self.judge(found['features'], regions, size)
        how = self.heads[-1].decoding
        # Where there are masks, mmdet suppresses before it scales back.
        if not self.masks:
            boxes = boxes * np.float32(1 / ratio)
        rows = select(boxes, scores, how)
        masks = []
        if self.masks and len(rows):
            masks = self.mask(found['features'], rows, ratio, image.shape[:2])
            rows[:, :4] /= np.float32(ratio)
        return rows, masks

    def judge(self, features, regions, size):
        """Boxes by class, (R, K, 4), and scores, (R, K); a cascade refines regions."""
        total = 0
        for head in self.heads:
            how = head.decoding
            found = head(pool(features, regions, how['regions']))
            [logits], [deltas] = found['classes and background'], found['boxes']
            total = total + logits
            deltas = deltas.reshape(len(regions), -1, 4)
            boxes = apply(deltas, regions[:, None], how, size)
            if head is not self.heads[-1]:
                best = 0 if how['class_agnostic'] else logits[:, :-1].argmax(1)
                regions = boxes[np.arange(len(regions)), best]
        scores = softmax(total / len(self.heads))[:, :-1]
        return np.broadcast_to(boxes, (*scores.shape, 4)), scores

    def mask(self, features, rows, ratio, size):
        """Masks of rows whose boxes are in pixels of the input."""
        found, kinds = 0, rows[:, 5].astype(int)
        for head in self.masks:
            pooled = pool(features, rows[:, :4], head.decoding['regions'])
            [maps] = head(pooled)['masks']
            kept = 0 if head.decoding['class_agnostic'] else kinds
            found = found + sigmoid(maps[np.arange(len(rows)), kept]) / len(self.masks)
        boxes, how = rows[:, :4] / np.float32(ratio), self.masks[-1].decoding
        return [paste(values, box, size) >= how['threshold']
                for values, box in zip(found, boxes)]


# -- the image ---------------------------------------------------------------------
def prepare(image, file):
    """The input of the first file, where boxes end in it (width, height), the ratio."""
    how, (h, w) = file.how, image.shape[:2]
    assert not how['unclear'] and not how['crop'], f'Not in the metadata: {how}'
    to, (_, height, width), ratio = how['resize'], file.shape, np.ones(4)
    if to:
        factor = min(to.get('long', 1e9) / max(h, w), to.get('short', 1e9) / min(h, w))
        h, w = to.get('size') or [int(x * factor + to['rounding']) for x in (h, w)]
        assert to['library'] == 'opencv', 'Resize the images with Pillow.'
        ratio = np.array([w / image.shape[1], h / image.shape[0]] * 2)
        kind = getattr(cv2, to['interpolation'])
        image = cv2.resize(image, (w, h), interpolation=kind)
    x = np.full((height, width, 3), how['padding']['value'], np.float32)
    x[:h, :w] = image[..., ['BGR'.index(c) for c in how['colour_order']]]
    x = (x * how['scale'] - np.float32(how['mean'])) / np.float32(how['std'])
    size = (w, h) if how['padding']['border'] == 'image' else (width, height)
    return np.repeat(x.transpose(2, 0, 1)[None], 1, axis=0), size, ratio


# -- boxes -------------------------------------------------------------------------
def propose(found, file, size):
    """Regions (R, 4) from what the RPN says of all levels."""
    how = file.decoding
    outputs = [output for output in file.outputs if output['role'] == 'classes']
    boxes, scores, levels = [], [], []
    for level, output in enumerate(outputs):
        logits, deltas = found['classes'][level][0], found['boxes'][level][0]
        height, width = logits.shape[1:]
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        corners = np.stack([x, y, x, y], -1).reshape(-1, 1, 4) * output['stride']
        anchors = np.float32(corners + np.float32(how['anchors'][level])).reshape(-1, 4)
        logits = logits.transpose(1, 2, 0).reshape(len(anchors), -1)
        score = sigmoid(logits[:, 0]) if output['activation'] == 'sigmoid' else \
            softmax(logits)[:, 0]
        best = np.argsort(-score, kind='stable')[:how['per_level'] or None]
        deltas = deltas.transpose(1, 2, 0).reshape(-1, 4)[best]
        boxes.append(apply(deltas, anchors[best], how, size))
        scores.append(score[best])
        levels.append(np.full(len(best), level))
    boxes, scores, levels = map(np.concatenate, (boxes, scores, levels))
    if how['smallest'] >= 0:
        large = (boxes[:, 2:] - boxes[:, :2] > how['smallest']).all(1)
        boxes, scores, levels = boxes[large], scores[large], levels[large]
    return boxes[suppress(boxes, scores, levels, how)]


def apply(deltas, boxes, how, size):
    """Move and stretch boxes: shifts in sides, and logarithms of factors."""
    assert how['boxes'] == 'deltas', f'{how["boxes"]} are not implemented here.'
    deltas = deltas * np.float32(how['stds']) + np.float32(how['means'])
    sides = boxes[..., 2:] - boxes[..., :2]
    centres = (boxes[..., :2] + boxes[..., 2:]) * np.float32(0.5)
    most = np.float32(abs(np.log(how['widest'])))
    centres = centres + sides * deltas[..., :2]
    halves = sides * np.exp(deltas[..., 2:].clip(-most, most)) * np.float32(0.5)
    corners = np.concatenate([centres - halves, centres + halves], -1)
    return corners.clip(0, np.float32([*size, *size])) if how['clipped'] else corners


def suppress(boxes, scores, groups, how):
    """Numbers of the boxes that remain, the best first; groups do not compete."""
    assert how['suppression'] == 'nms', f'{how["suppression"]} is not implemented here.'
    if not len(boxes):
        return []
    if how['by_class']:  # mmdet moves groups apart, which rounds their corners
        boxes = boxes + (groups * (boxes.max() + 1)).astype(np.float32)[:, None]
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    order, kept = np.argsort(-scores, kind='stable'), []
    while len(order) and len(kept) != how['limit']:
        first, order = order[0], order[1:]
        kept.append(first)
        inside = np.minimum(boxes[first, 2:], boxes[order, 2:]) - np.maximum(
            boxes[first, :2], boxes[order, :2])
        shared = inside.clip(0).prod(1)
        order = order[shared / (areas[first] + areas[order] - shared) <= how['iou']]
    return kept


def select(boxes, scores, how):
    """Rows of box, score and class that a detector reports."""
    regions, kinds = np.nonzero(scores > how['score'])
    boxes, scores = boxes[regions, kinds], scores[regions, kinds]
    kept = suppress(boxes, scores, kinds, how)
    return np.concatenate(
        [boxes, scores[:, None], kinds[:, None]], 1).astype(np.float32)[kept]


# -- features and masks --------------------------------------------------------------
def pool(features, boxes, how):
    """Average features of regions, (R, C, h, w), each from the level of its size."""
    assert how['pooling'] == 'align', f'{how["pooling"]} is not implemented here.'
    sides = (boxes[:, 2:] - boxes[:, :2]).prod(1) ** 0.5
    levels = np.floor(np.log2(sides / how['finest'] + 1e-6))
    levels = levels.clip(0, len(how['strides']) - 1).astype(int)
    pooled = []
    for box, level in zip(boxes, levels):
        values = features[level][0]
        low, high = box.reshape(2, 2) / np.float32(how['strides'][level])
        if how['aligned']:
            low, high = low - np.float32(0.5), high - np.float32(0.5)
        else:
            high = np.maximum(high, low + 1)
        across, down = (average(low[i], high[i], how['size'][1 - i], how['samples'],
                                values.shape[2 - i]) for i in (0, 1))
        pooled.append(down @ values @ across.T)
    return np.float32(pooled)


def average(low, high, bins, samples, cells):
    """Weights (bins, cells) that average interpolated samples of every bin."""
    samples = samples or int(np.ceil((high - low) / bins))
    weights = np.zeros((bins, cells), np.float32)
    places = (np.arange(bins)[:, None] + (np.arange(samples) + 0.5) / max(samples, 1))
    places = low + places * (high - low) / bins
    share = ((places >= -1) & (places <= cells)) / max(samples, 1)
    places = places.clip(0, cells - 1)
    before = places.astype(int)
    rest, rows = places - before, np.arange(bins)[:, None]
    np.add.at(weights, (rows, before), share * (1 - rest))
    np.add.at(weights, (rows, np.minimum(before + 1, cells - 1)), share * rest)
    return weights


def paste(values, box, size):
    """A mask of the whole image from the values within a box."""
    sides = []
    for low, high, cells, length in zip(
            box[1::-1], box[:1:-1], values.shape, size):
        places = (np.arange(length) + 0.5 - low) / (high - low) * cells - 0.5
        sides.append((1 - abs(places[:, None] - np.arange(cells))).clip(0))
    down, across = sides
    return down @ values @ across.T


def sigmoid(x):
    """Probabilities of each number by itself."""
    return 1 / (1 + np.exp(-x))


def softmax(x):
    """Probabilities of a row."""
    x = np.exp(x - x.max(1, keepdims=True))
    return x / x.sum(1, keepdims=True)


def main():
    """Run a detector on all images of a folder."""
    detector = Detector(sys.argv[1])
    found = {path.name: detector(cv2.imread(str(path)))[0]
             for path in sorted(Path(sys.argv[2]).iterdir())}
    score(found, detector.first.classes, *sys.argv[3:])


if __name__ == '__main__':
    main()
