"""Scripts reproduce what tools/test.py --backend says, digit by digit."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from command_lines import metrics_of, run_here
from mmengine.registry import MODELS, init_default_scope
from small_detectors import small

from mmcompress.openmmlab.models import convert_akamaster

pytestmark = pytest.mark.slow
PROGRAMS = dict(onnxruntime='run_onnx', openvino='run_openvino')


@pytest.fixture
def tool(shared_data, tmp_path, monkeypatch):
    """Runs a tool on a config that finds the shared data."""
    monkeypatch.setenv('DATA_ROOT', str(shared_data))

    def run(name: str, *args: object) -> None:
        ended = run_here(name, *args, '--work-dir', tmp_path / 'work', cwd=tmp_path)
        assert ended.code == 0, ended

    return run


def same_metrics(tool, example, config: Path, file: Path, images: Path, truth: Path):
    """The metrics of a file in every runtime, which both programs agree on."""
    found = {}
    for backend, program in PROGRAMS.items():
        out = file.with_name(f'{backend}.json')
        got = example(program, file, images, truth)
        tool('test', config, file, '--backend', backend, '--out', out, '--cfg-options',
             'test_dataloader.num_workers=0',
             'test_dataloader.persistent_workers=False')
        metrics = got['score'](got['found'], got['names'], str(truth))
        assert metrics == metrics_of(out)
        found[backend] = metrics
    return found


def test_map_of_yolox_nano(repo, shared_data, tool, example, tmp_path):
    config, file = repo / 'configs/yolox/yolox_nano_coco128.py', tmp_path / 'net.onnx'
    tool('export', config, shared_data / 'yolox_nano/yolox_nano_coco_mmdet.pth',
         '--boxes', '--out', file)
    coco = shared_data / 'coco128'
    found = same_metrics(tool, example, config, file, coco / 'val2017',
                         coco / 'annotations/instances_val128.json')
    for metrics in found.values():  # the data's README: 33.6
        assert metrics['coco/bbox_mAP'] == pytest.approx(0.336, abs=1e-3)


def test_accuracy_of_resnet20(repo, shared_data, tool, example, tmp_path):
    config, file = repo / 'configs/cifar/resnet20_cifar10.py', tmp_path / 'net.onnx'
    weights = torch.load(
        shared_data / 'cifar_resnet/resnet20_cifar10.pth', weights_only=True)
    torch.save(dict(state_dict=convert_akamaster(weights)), tmp_path / 'net.pth')
    tool('export', config, tmp_path / 'net.pth', '--shape', 32, 32, '--out', file)
    batch = pickle.loads((shared_data / (
        'cifar10/lossless6102/cifar-10-batches-py/test_batch')).read_bytes(),
        encoding='latin1')
    images, truth = tmp_path / 'images', tmp_path / 'labels.txt'
    images.mkdir()
    pixels = batch['data'].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    for i, image in enumerate(pixels):  # RGB
        cv2.imwrite(str(images / f'{i}.png'), np.ascontiguousarray(image[..., ::-1]))
    truth.write_text('\n'.join(
        f'{i}.png {label}' for i, label in enumerate(batch['labels'])))
    found = same_metrics(tool, example, config, file, images, truth)
    for metrics in found.values():  # the data's README: 932 of 1017
        assert metrics['accuracy/top1'] == pytest.approx(100 * 932 / 1017)


FASTER = """
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['mmcompress'])
model = dict(_delete_=True, **{model!r})
test_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(
    data_root={data!r}, ann_file='annotations/instances_val128.json', indices=6,
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(320, 320), keep_ratio=True),
        dict(type='PackDetInputs', meta_keys=(
            'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]))
test_evaluator = dict(
    _delete_=True, type='DumpDetResults', out_file_path={out!r})
"""


def test_boxes_of_a_faster_rcnn(shared_data, tool, example, tmp_path):
    init_default_scope('mmdet')
    torch.manual_seed(0)
    config, file, out = (tmp_path / name for name in ('c.py', 'net.onnx', 'out.pkl'))
    parts = small('faster_rcnn')
    config.write_text(FASTER.format(
        model=parts.to_dict(), data=f'{shared_data}/coco128/', out=str(out)))
    torch.save(dict(state_dict=MODELS.build(parts).state_dict()), tmp_path / 'net.pth')
    tool('export', config, tmp_path / 'net.pth', '--out', file)
    tool('test', config, file, '--backend', 'onnxruntime')
    detector = example('run_two_stage', main=False)['Detector'](file)
    samples = pickle.loads(out.read_bytes())
    assert len(samples) == 6
    for sample in samples:
        rows, _ = detector(cv2.imread(sample['img_path']))
        wanted = sample['pred_instances']
        assert len(rows) == len(wanted['scores']) > 0
        for got, values in zip((rows[:, :4], rows[:, 4], rows[:, 5]), (
                wanted['bboxes'], wanted['scores'], wanted['labels'])):
            np.testing.assert_allclose(got, values.numpy(), rtol=1e-3, atol=1e-2)
