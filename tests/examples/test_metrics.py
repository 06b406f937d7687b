"""Scripts reproduce what tools/test.py --backend says, digit by digit."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from command_lines import metrics_of, run_here

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
        tool('test', config, file, '--backend', backend, '--out', out)
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
