"""What is kept of a golden run, read from the files that its commands wrote.

Every function takes the path that a case names and the folder to write to. Text and
JSON are compared bit for bit, arrays to a tolerance; see :mod:`comparing`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper

IMAGES = '../shared/data/coco128/val2017'
INTEGERS = (np.int8, np.uint8, np.int32)
"""Types of quantised weights and biases. Shapes and axes are int64: left out."""


def searched(path: Path, out: Path) -> None:
    """Trade-off, every evaluated point, policies, their weights, and artefacts."""
    shutil.copy(path / 'tradeoff.csv', out)
    outcome = json.loads((path / 'outcome.json').read_text())
    _write(out / 'points.json', outcome['tradeoff']['points'])
    for policy in sorted((path / 'policies').glob('*.json')):
        table(policy, out)
        weights(policy.with_suffix('.pth'), out)
    for name in ('ranking.json', 'predictor.npz'):
        if (path / name).exists():
            shutil.copy(path / name, out)


def table(path: Path, out: Path) -> None:
    """A JSON file as it is."""
    shutil.copy(path, out)


def arrays(path: Path, out: Path) -> None:
    """An ``.npz`` file as it is."""
    shutil.copy(path, out)


def digest(path: Path, out: Path) -> None:
    """One number for all bits of a checkpoint's weights."""
    found = hashlib.sha256()
    for name, tensor in sorted(_state_dict(path).items()):
        found.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}'.encode())
        found.update(tensor.contiguous().numpy().tobytes())
    _write(out / f'{path.stem}_digest.json', found.hexdigest())


def weights(path: Path, out: Path) -> None:
    """Shape, sum and sum of squares of each tensor: less to keep than the tensors."""
    summary = {}
    for name, tensor in _state_dict(path).items():
        values = tensor.numpy().astype(float)  # NumPy sums on one thread.
        summary[name] = np.array([*values.shape, values.sum(), (values**2).sum()])
    np.savez(out / f'{path.stem}_weights.npz', **summary)


def onnx_file(path: Path, out: Path) -> None:
    """Outputs of ONNX Runtime for two photographs, and the integers in the file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(path), options, providers=['CPUExecutionProvider'])
    given = session.get_inputs()[0]
    names = [output.name for output in session.get_outputs()]
    found = {}
    for i, image in enumerate(photographs(path.parent / IMAGES, given.shape, 2)):
        outputs = session.run(names, {given.name: image})
        found.update({f'{name} {i}': x for name, x in zip(names, outputs)})
    np.savez(out / f'{path.stem}_outputs.npz', **found)
    # By content: names of constants are the exporter's own business.
    contents = [
        f'{x.dtype} {x.shape} {hashlib.sha256(x.tobytes()).hexdigest()}'
        for x in map(numpy_helper.to_array, onnx.load(str(path)).graph.initializer)
        if x.dtype in INTEGERS]
    _write(out / f'{path.stem}_integers.json', sorted(contents))


def photographs(folder: Path, shape: list[int], count: int) -> list[np.ndarray]:
    """The first images of a folder, stretched to ``(1, 3, H, W)``, in 0 to 255."""
    files = sorted(folder.glob('*.jpg'))[:count]
    pixels = [cv2.resize(cv2.imread(str(file)), (shape[3], shape[2])) for file in files]
    return [x.transpose(2, 0, 1)[None].astype(np.float32) for x in pixels]


def _state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a checkpoint that a golden run wrote; others are not to be trusted."""
    data = torch.load(path, map_location='cpu', weights_only=False)
    return data.get('state_dict', data)


def _write(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=1))
