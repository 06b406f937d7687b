"""Scripts find the boxes that a detector finds through its files, and its masks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from models_in_parts import build_dense_detector, build_region_detector
from pipelines import READ, config_of, packed

from mmcompress.exporter.export import ExportOptions, export_onnx
from mmcompress.openmmlab.backend import attach
from mmcompress.openmmlab.recipes import recipe_of

pytest.importorskip('mmdet.models')
# Images become 47 x 64 and the like, beside which the input is padded.
PIPELINE = [READ, dict(type='Resize', scale=(64, 64), keep_ratio=True), dict(
    type='PackDetInputs', meta_keys=('img_shape', 'ori_shape', 'scale_factor'))]


def files_of(model, folder: Path, **options) -> list:
    """The files of a model, which knows its pipeline and computes with them."""
    shape = (3, 64, 64)
    files = export_onnx(model, folder / 'net.onnx', ExportOptions(
        shape, classes=['a', 'b', 'c'], recipe=recipe_of(config_of(PIPELINE), shape),
        **options))
    attach(model, files[0].path, 'onnxruntime')
    return files


@pytest.mark.parametrize('backend', ['onnxruntime', 'openvino'])
def test_one_stage(example, folder, tmp_path, backend):
    model = build_dense_detector('retina')
    [file] = files_of(model, tmp_path, boxes=True)
    program = dict(onnxruntime='run_onnx', openvino='run_openvino')[backend]
    found = example(program, file.path, folder)['found'].values()
    attach(model, file.path, backend)
    for rows, batch in zip(found, packed(PIPELINE, folder, 'mmdet'), strict=True):
        [wanted] = (sample.pred_instances for sample in model.test_step(batch))
        assert len(rows) == len(wanted) > 0
        assert np.array_equal(rows[:, :4], wanted.bboxes.numpy())
        assert np.array_equal(rows[:, 4], wanted.scores.numpy())
        assert np.array_equal(rows[:, 5], wanted.labels.numpy())


@pytest.mark.parametrize('kind', ['faster', 'mask', 'cascade'])
def test_two_stages(example, folder, tmp_path, kind):
    model = build_region_detector(kind)
    files = files_of(model, tmp_path)
    assert len(files) == dict(faster=2, mask=3, cascade=5)[kind]
    detector = example('run_two_stage', main=False)['Detector'](files[0].path)
    images = sorted(folder.iterdir())
    for path, batch in zip(images, packed(PIPELINE, folder, 'mmdet'), strict=True):
        [wanted] = (sample.pred_instances for sample in model.test_step(batch))
        image = cv2.imread(str(path))
        rows, masks = detector(image)
        assert len(rows) == len(wanted) > 0
        np.testing.assert_allclose(rows[:, :4], wanted.bboxes, rtol=1e-3, atol=1e-2)
        np.testing.assert_allclose(rows[:, 4], wanted.scores, rtol=1e-3, atol=1e-4)
        assert np.array_equal(rows[:, 5], wanted.labels)
        if kind != 'faster':
            assert np.shape(masks) == wanted.masks.shape
            # A pixel of a mask may fall on the other side of the threshold.
            assert (np.array(masks) != wanted.masks.numpy()).mean() < 1e-3
            assert 0 < np.mean(masks) < 1


def test_raw_outputs_are_refused(example, folder, tmp_path):
    [file] = files_of(build_dense_detector('fcos'), tmp_path)
    with pytest.raises(AssertionError, match='--boxes'):
        example('run_onnx', file.path, folder)
