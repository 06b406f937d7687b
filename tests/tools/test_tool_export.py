"""From a search for milliseconds to files that are tested and timed."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from command_lines import Ended, Job, metrics_of

pytestmark = pytest.mark.slow

# Sums of products with weights of 8 bits are cut off by a CPU without VNNI.
QUANTISED = """
_base_ = {base!r}
compression = dict(
    _delete_=True, input_shape=(3, 32, 32),
    quant=dict(weight_bits=[4, 7], activation_bits=[4, 8], keep8=[]))
search_cfg = dict(
    searcher=dict(_delete_=True, type='Uniform', evaluations=2),
    evaluator=dict(images=100, dynamic_bn='off'),
    targets=dict(_delete_=True, latency_ms=[1000.0]))
"""


@pytest.fixture(scope='module')
def policy(tool: Callable[..., Ended], job: Job, tmp_path_factory) -> Path:
    """What a search for a network of at most a second finds."""
    folder = tmp_path_factory.mktemp('quantised')
    config = folder / 'quantised.py'
    config.write_text(QUANTISED.format(base=str(job.config)))
    ended = tool('search', config, cwd=folder)
    assert ended.code == 0, ended
    return folder / 'work_dirs/quantised/policies/latency_ms_1000.json'


@pytest.fixture(scope='module')
def file(tool: Callable[..., Ended], policy: Path) -> Path:
    """Its network as ONNX."""
    config, out = policy.parents[3] / 'quantised.py', policy.parents[3] / 'net.onnx'
    ended = tool('export', config, policy.with_suffix('.pth'), '--policy', policy,
                 '--out', out, '--model-out', out.with_suffix('.json'),
                 cwd=config.parent)
    assert ended.code == 0, ended
    return out


def test_latency_as_a_target(policy: Path) -> None:
    facts = json.loads(policy.read_text())['facts']
    assert 0 < facts['costs']['latency_ms'] < 1000
    rows = list(csv.DictReader((policy.parents[1] / 'tradeoff.csv').open()))
    assert all(float(row['latency_ms']) > 0 for row in rows)
    assert (policy.parents[1] / 'latency.json').is_file()


def test_the_model_of_the_file_names_its_classes(file: Path) -> None:
    meta = torch.load(file.with_suffix('.pth'), weights_only=True)['meta']
    assert len(meta['dataset_meta']['classes']) == 10


def test_accuracy_of_the_file(
    tool: Callable[..., Ended], policy: Path, file: Path, tmp_path: Path
) -> None:
    config, found = policy.parents[3] / 'quantised.py', []
    twin = file.with_suffix('.json')
    for name, args in dict(
            twin=[twin.with_suffix('.pth'), '--policy', twin],
            model=[policy.with_suffix('.pth'), '--policy', policy],
            file=[file, '--backend', 'onnxruntime']).items():
        out = tmp_path / f'{name}.json'
        ended = tool('test', config, *args, '--out', out, cwd=config.parent)
        assert ended.code == 0, ended
        found.append(metrics_of(out)['accuracy/top1'])
    # 100 test images: at most two of them change sides by what only the file has, and
    # at most one for a value next to a tie.
    assert found[2] == pytest.approx(found[1], abs=2.0)
    assert found[2] == pytest.approx(found[0], abs=1.0)


def test_points_of_the_file_learn_and_are_exported_again(
    tool: Callable[..., Ended], policy: Path, file: Path, tmp_path: Path
) -> None:
    config, twin = policy.parents[3] / 'quantised.py', file.with_suffix('.json')
    ended = tool('train', config, '--policy', twin, '--work-dir', tmp_path,
                 '--cfg-options', 'train_cfg.max_epochs=1', cwd=config.parent)
    assert ended.code == 0, ended
    trained = tmp_path / 'epoch_1.pth'
    before, after = (
        torch.load(path, weights_only=False)['state_dict']
        for path in (twin.with_suffix('.pth'), trained))
    points = [key for key in before if key.startswith('file_points.')]
    assert points and before.keys() == after.keys()
    assert any(not torch.equal(before[key], after[key]) for key in points)
    again = tmp_path / 'again.onnx'
    ended = tool('export', config, trained, '--policy', twin, '--out', again,
                 cwd=config.parent)
    assert ended.code == 0, ended
    accuracy = []
    for args in ([trained, '--policy', twin], [again, '--backend', 'onnxruntime']):
        out = tmp_path / 'metrics.json'
        ended = tool('test', config, *args, '--out', out, cwd=config.parent)
        assert ended.code == 0, ended
        accuracy.append(metrics_of(out)['accuracy/top1'])
    assert accuracy[0] == pytest.approx(accuracy[1], abs=1.0)


def test_a_model_for_a_file_needs_a_policy_and_a_name(
    tool: Callable[..., Ended], policy: Path, tmp_path: Path
) -> None:
    config = policy.parents[3] / 'quantised.py'
    checkpoint = policy.with_suffix('.pth')
    for args, message in (
            (['--model-out', tmp_path / 'a.json'], 'Give the --policy'),
            (['--policy', policy, '--model-out', tmp_path / 'a.pth'], 'end in .json')):
        ended = tool('export', config, checkpoint, *args, '--out',
                     tmp_path / 'a.onnx', cwd=config.parent)
        assert ended.code != 0 and message in ended.message


def test_fitted_file(
    tool: Callable[..., Ended], policy: Path, job: Job, tmp_path: Path, capsys
) -> None:
    config, out = policy.parents[3] / 'quantised.py', tmp_path / 'fitted.onnx'
    ended = tool('export', config, policy.with_suffix('.pth'), '--policy', policy,
                 '--out', out, '--fit-steps', 20, cwd=config.parent)
    assert ended.code == 0 and out.is_file(), ended
    before, after = map(float, re.search(
        r'outputs ([\d.]+) before, ([\d.]+) after', capsys.readouterr().out).groups())
    assert after <= before
    ended = tool('export', job.config, job.checkpoint, '--out', out, '--fit-steps', 1,
                 cwd=job.folder)
    assert ended.code != 0 and 'nothing to fit' in ended.message


def test_slower_files_are_named(
    tool: Callable[..., Ended], file: Path, tmp_path: Path, capsys, job: Job
) -> None:
    eight = tmp_path / 'eight.onnx'  # eight images take longer than one
    ended = tool('export', job.config, job.checkpoint, '--out', eight,
                 '--batch', 8, cwd=job.folder)
    assert ended.code == 0, ended
    ended = tool('benchmark', file, eight, '--threads', 1, '--repeats', 9,
                 '--warm-up', 2, cwd=tmp_path)
    assert ended.code == 0, ended
    said = ' '.join(capsys.readouterr().out.split())
    assert 'NOT faster' in said and 'To blame' in said
    assert 'backbone.layer' in said  # layers by their names


@pytest.mark.parametrize('runtime', ['openvino', 'tensorrt'])
def test_files_for_other_runtimes(
    tool: Callable[..., Ended], job: Job, tmp_path: Path, runtime: str
) -> None:
    out, policy = tmp_path / 'int8.onnx', tmp_path / 'int8.json'
    ended = tool('export', job.config, job.checkpoint, '--out', out, '--int8',
                 '--skip', '--runtime', runtime, '--model-out', policy,
                 cwd=job.folder)
    assert ended.code == 0, ended
    found, backends = [], ['onnxruntime']
    if runtime == 'openvino' and find_spec('openvino'):
        backends.append(runtime)
    tested = [[policy.with_suffix('.pth'), '--policy', policy],
              *([out, '--backend', backend] for backend in backends)]
    for number, args in enumerate(tested):
        metrics = tmp_path / f'{number}.json'
        ended = tool('test', job.config, *args, '--out', metrics, cwd=job.folder)
        assert ended.code == 0, ended
        found.append(metrics_of(metrics)['accuracy/top1'])
    # The file is the model: at most one image of 100 changes sides.
    assert found[1:] == pytest.approx(found[:1] * len(backends), abs=1.0)


def test_float16_and_several_runtimes(
    tool: Callable[..., Ended], job: Job, tmp_path: Path, capsys
) -> None:
    pytest.importorskip('openvino')
    files = [tmp_path / 'float.onnx', tmp_path / 'half.onnx']
    for path, more in zip(files, ([], ['--float16'])):
        ended = tool('export', job.config, job.checkpoint, '--out', path, *more,
                     cwd=job.folder)
        assert ended.code == 0, ended
    assert files[1].stat().st_size < 0.7 * files[0].stat().st_size
    ended = tool('benchmark', *files, '--backend', 'onnxruntime',
                 '--backend', 'openvino', '--threads', 1, '--repeats', 3,
                 '--warm-up', 0, cwd=tmp_path)
    assert ended.code == 0, ended
    said = ' '.join(capsys.readouterr().out.split())
    assert re.search(r'Fastest: \S+\.onnx in (onnxruntime|openvino), [\d.]+ ms', said)
