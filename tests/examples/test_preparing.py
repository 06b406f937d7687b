"""Scripts prepare images bit by bit as the data pipeline of a config does."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from mmengine.registry import MODELS
from onnx import TensorProto, helper
from pipelines import READ, config_of, packed
from torch.nn.functional import pad

from mmcompress.data.preprocessing import Recipe, preprocessing_facts
from mmcompress.openmmlab.kinds import EngineModel
from mmcompress.openmmlab.recipes import recipe_of

NORMALISED = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
DETECTION = dict(type='mmdet.DetDataPreprocessor', pad_size_divisor=32)
CLASSES = dict(type='mmpretrain.ClsDataPreprocessor', to_rgb=True, **NORMALISED)
KEEP = dict(type='Resize', keep_ratio=True)
CASES = dict(
    yolox=((64, 64), 'mmdet', DETECTION, [
        dict(KEEP, scale=(64, 64)),
        dict(type='Pad', pad_to_square=True, pad_val=dict(img=(114.0, 113.0, 112.0)))]),
    rtmdet=((64, 96), 'mmdet', dict(DETECTION, bgr_to_rgb=True, **NORMALISED), [
        dict(KEEP, scale=(64, 64)),
        dict(type='Pad', size=(96, 64), pad_val=dict(img=(114, 113, 112)))]),
    retinanet=((96, 96), 'mmdet', dict(DETECTION, bgr_to_rgb=True, **NORMALISED), [
        dict(KEEP, scale=(95, 61))]),
    grey_border=((96, 96), 'mmdet', dict(DETECTION, pad_value=114), [
        dict(KEEP, scale=(95, 61))]),
    ssd=((64, 96), 'mmdet', dict(DETECTION, bgr_to_rgb=True, **NORMALISED), [
        dict(type='Resize', scale=(96, 64), keep_ratio=False)]),
    resnet=((40, 40), 'mmpretrain', CLASSES, [
        dict(type='ResizeEdge', scale=48, edge='short'),
        dict(type='CenterCrop', crop_size=40)]),
    vit=((40, 40), 'mmpretrain', CLASSES, [
        dict(type='ResizeEdge', scale=47, backend='pillow', interpolation='bicubic'),
        dict(type='CenterCrop', crop_size=40)]),
    long_edge=((50, 50), 'mmpretrain', CLASSES, [
        dict(type='ResizeEdge', scale=50, edge='long', interpolation='area')]))


def echo(path: Path, shape: tuple[int, int], facts: dict) -> Path:
    """A network that returns its input."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, *shape])
              for name in ('image', 'output_0')]
    model = helper.make_model(helper.make_graph(
        [helper.make_node('Identity', ['image'], ['output_0'])], 'echo', values[:1],
        values[1:]), opset_imports=[helper.make_opsetid('', 21)], ir_version=10)
    helper.set_model_props(model, {key: json.dumps(value) for key, value in dict(
        preprocessing=facts, decoding={}, classes=[], batch=1,
        shape=[3, *shape]).items()})
    onnx.save(model, path)
    return path


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('program', ['run_onnx', 'run_openvino'])
def test_the_input_is_the_same(example, folder, tmp_path, case, program):
    shape, scope, config, steps = CASES[case]
    pytest.importorskip(f'{scope}.models')
    loader = MODELS.build(config)
    pipeline = [READ, *steps, dict(
        type='PackDetInputs' if scope == 'mmdet' else 'PackInputs')]
    model = SimpleNamespace(data_preprocessor=loader)
    facts = preprocessing_facts(
        EngineModel().normalisation(model), recipe_of(config_of(pipeline), (3, *shape)))
    assert facts['unclear'] == [] and facts['layout'] == 'NCHW'
    got = example(program, echo(tmp_path / 'echo.onnx', shape, facts), folder)['found']
    wanted = []
    for batch in packed(pipeline, folder, scope):
        image = loader(batch)['inputs']
        down, right = (a - b for a, b in zip(shape, image.shape[2:]))
        wanted.append(pad(image, (0, right, 0, down), value=loader.pad_value).numpy())
    assert all(map(np.array_equal, got.values(), wanted)) and len(wanted) == len(got)


@pytest.mark.parametrize('steps', [
    [dict(READ, to_float32=True)],
    [READ, dict(KEEP, scale=(95, 61)), dict(type='Pad', size_divisor=32)],
    [READ, dict(KEEP, scale=(96, 64)), dict(type='Pad', pad_to_square=True)],
    [READ, dict(type='CenterCrop', crop_size=40), dict(KEEP, scale=(64, 64))],
    [READ, dict(type='RandomFlip', prob=0.5)]])
def test_what_metadata_cannot_say_is_named(example, folder, tmp_path, steps):
    recipe = recipe_of(config_of([*steps, dict(type='PackDetInputs')]), (3, 96, 96))
    [named] = recipe.unclear
    assert steps[-1]['type'] in named
    facts = preprocessing_facts(None, recipe)
    with pytest.raises(AssertionError, match=steps[-1]['type']):
        example('run_onnx', echo(tmp_path / 'echo.onnx', (96, 96), facts), folder)


def test_images_in_memory():
    pytest.importorskip('mmpretrain.datasets')
    import mmcompress.openmmlab.datasets  # noqa: F401  (registers Cifar10Subset)

    cfg = config_of([dict(type='PackInputs')])
    cfg.test_dataloader.dataset.type = 'mmcompress.Cifar10Subset'
    assert recipe_of(cfg, (3, 32, 32)) == Recipe('RGB', unclear=())
    cfg.test_dataloader.dataset.type = 'mmpretrain.CustomDataset'
    assert 'colour order' in recipe_of(cfg, (3, 32, 32)).unclear[0]
