"""Metadata suffice to turn raw outputs into boxes; files without them still run."""

import json

import numpy as np
import onnx
import pytest
import torch

from mmcompress.exporter.metadata import read_metadata
from mmcompress.exporter.parts import nest, parts_of
from mmcompress.kinds import kind_of
from mmcompress.openmmlab.backend import attach

SHAPE = (3, 64, 96)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def rows(x, count):
    """Values of a map by prior: (1, A * count, H, W) to (H * W * A, count)."""
    return x[0].transpose(1, 2, 0).reshape(-1, count)


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def priors_of(how, level, height, width):
    """Anchors, or points, of all cells."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    cells, stride = np.stack([x, y], -1).reshape(-1, 1, 2), how['strides'][level]
    if 'anchors' in how:
        return (np.tile(cells, 2) * stride + np.array(how['anchors'][level])
                ).reshape(-1, 4)
    return ((cells + how['offset']) * stride).reshape(-1, 2)


def corners_of(values, priors, how, stride):
    """Corners of boxes as docs/reference/metadata.md has them."""
    if how['boxes'] == 'centre and size':
        centres, sizes = priors + values[:, :2] * stride, np.exp(values[:, 2:]) * stride
    elif how['boxes'] == 'deltas':
        values = values * how['stds'] + how['means']
        sides = priors[:, 2:] - priors[:, :2]
        centres = (priors[:, 2:] + priors[:, :2]) / 2 + values[:, :2] * sides
        most = abs(np.log(how['widest']))
        sizes = sides * np.exp(values[:, 2:].clip(-most, most))
    else:
        if how['boxes'] == 'distributions':
            values = softmax(values.reshape(-1, 4, how['bins'])) @ np.arange(
                how['bins']) * stride
            priors = (priors[:, 2:] + priors[:, :2]) / 2
        return np.concatenate([priors - values[:, :2], priors + values[:, 2:]], 1)
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], 1)


def decoded(arrays, outputs, how):
    """Boxes and scores of all priors, by metadata alone."""
    boxes, scores = [], []
    for level, stride in enumerate(how['strides']):
        found = {output['role']: (value, output['activation']) for value, output in zip(
            arrays, outputs, strict=True) if output['stride'] == stride}
        height, width = found['boxes'][0].shape[2:]
        priors = priors_of(how, level, height, width)
        each = len(priors) // (height * width)
        values = rows(found['boxes'][0], found['boxes'][0].shape[1] // each)
        boxes.append(corners_of(values, priors, how, stride))
        assert found['classes'][1] == 'sigmoid'
        score = sigmoid(rows(found['classes'][0], 3))
        for role in ('objectness', 'centreness'):
            if role in found:
                assert found[role][1] == 'sigmoid'
                score = score * sigmoid(rows(found[role][0], 1))
        scores.append(score)
    boxes = np.concatenate(boxes)
    if how.get('clipped'):
        boxes = boxes.clip(0, [96, 64, 96, 64])
    return boxes, np.concatenate(scores).T


@pytest.mark.parametrize('kind', ['yolox', 'retina', 'fcos', 'gfl'])
def test_raw_outputs_can_be_decoded(detector, dense_detector, kind):
    model = detector if kind == 'yolox' else dense_detector(kind)
    [part] = parts_of(model, SHAPE)
    with torch.no_grad():
        outputs = part.network(*part.inputs)
        structure = part.network.structure(*part.inputs)
        boxes, scores = kind_of(model).decode(
            model, part.inputs[0], nest(structure, list(outputs)))
    facts = json.loads(json.dumps([list(part.outputs(structure)), part.decoding]))
    got = decoded([x.numpy() for x in outputs], *facts)
    np.testing.assert_allclose(got[0], boxes[0].numpy(), rtol=1e-3, atol=1e-3)
    wanted = scores[0].numpy()
    assert (wanted > 0).any()
    np.testing.assert_allclose(  # those that are selected
        np.where(wanted > 0, got[1], 0), wanted, rtol=1e-3, atol=1e-5)
    assert facts[1]['iou'] == model.test_cfg.nms.iou_threshold
    assert facts[1]['score'] == model.test_cfg.score_thr


def test_a_classifier_says_what_follows(classifier):
    [part] = parts_of(classifier, (3, 32, 32))
    assert list(part.outputs(0)) == [dict(role='classes', activation='softmax')]
    # A head that predicts in its own way is not guessed.
    type(classifier.head)._get_predictions = lambda *_: None
    try:
        assert list(part.outputs(0)) == []
    finally:
        del type(classifier.head)._get_predictions


def test_parts_of_two_stages(region_detector):
    model = region_detector('cascade')
    parts = parts_of(model, (3, 64, 64))
    first, *heads = parts
    with torch.no_grad():
        structure = first.network.structure(*first.inputs)
    assert [(x['role'], x['stride']) for x in first.outputs(structure)] == [
        (role, stride) for role in ('features', 'classes', 'boxes')
        for stride in (4, 8)]
    assert first.decoding['limit'] == 20 and len(first.decoding['anchors']) == 2
    assert [[x['role'] for x in part.outputs(None)] for part in heads] == [
        ['classes and background', 'boxes']] * 2 + [['masks']] * 2
    assert [part.decoding['regions']['size'] for part in heads] == [
        [3, 3], [3, 3], [6, 6], [6, 6]]


def test_older_files_still_run(detector, detector_file, tmp_path):
    network = onnx.load(detector_file.path)
    kept = {entry.key: entry.value for entry in network.metadata_props}
    for key in ('outputs', 'decoding'):
        del kept[key]
    kept['preprocessing'] = json.dumps(dict(
        mean=[0.0] * 3, std=[1.0] * 3, channel_order='swapped', pad_size_divisor=16,
        pad_value=0))
    del network.metadata_props[:]
    onnx.helper.set_model_props(network, kept)
    onnx.save(network, tmp_path / 'old.onnx')
    assert 'outputs' not in read_metadata(tmp_path / 'old.onnx')
    images = torch.randn(1, *SHAPE)
    found = []
    for path in (detector_file.path, tmp_path / 'old.onnx'):
        attach(detector, path, 'onnxruntime', threads=1)
        found.append(detector(images)[0][0])
    assert torch.equal(*found)
