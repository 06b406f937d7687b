"""Run a file: run_openvino.py FILE.onnx FOLDER [ANNOTATIONS.json | LABELS.txt]"""
import json
import sys
from pathlib import Path

import cv2
import numpy as np
from openvino import Core
from score import score

network = Core().compile_model(sys.argv[1], 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
facts = Core().read_model(sys.argv[1]).get_rt_info('framework').value
how, raw, boxes, names, batch, (_, height, width) = (json.loads(facts.get(key, '0'))
    for key in ('preprocessing', 'decoding', 'boxes', 'classes', 'batch', 'shape'))
assert not how['unclear'] and not raw, how['unclear'] or 'Export it with --boxes.'
found, to, crop, order = {}, how['resize'], how['crop'], how['colour_order']
for path in sorted(Path(sys.argv[2]).iterdir()):
    image = cv2.imread(str(path))
    h0, w0 = h, w = image.shape[:2]
    if to:
        factor = min(to.get('long', 1e9) / max(h, w), to.get('short', 1e9) / min(h, w))
        h, w = to.get('size') or [int(x * factor + to['rounding']) for x in (h, w)]
        kind = to['interpolation']
        if to['library'] == 'pillow':
            from PIL.Image import Resampling, fromarray
            image = np.asarray(fromarray(image).resize((w, h), Resampling[kind]))
        else:
            image = cv2.resize(image, (w, h), interpolation=getattr(cv2, kind))
    if crop:  # the centre
        top, left = (max(0, round((a - b) / 2)) for a, b in zip((h, w), crop['size']))
        image = image[top:, left:][:crop['size'][0], :crop['size'][1]]
    x = np.full((height, width, 3), how['padding']['value'], np.float32)
    x[:image.shape[0], :image.shape[1]] = image[..., ['BGR'.index(c) for c in order]]
    x = (x * how['scale'] - np.float32(how['mean'])) / np.float32(how['std'])
    x = np.repeat(x.transpose(2, 0, 1)[None], batch or 1, axis=0)
    rows = found[path.name] = network({'image': x})[0].copy()
    if boxes:  # corners in pixels of the input become those of the image
        border = np.float32([w, h] * 2 if boxes['border'] == 'image' else np.inf)
        rows[:, :4] = np.minimum(rows[:, :4], border) / np.float32([w / w0, h / h0] * 2)
score(found, names, *sys.argv[3:])
