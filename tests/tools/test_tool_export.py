"""From a search for milliseconds to files that are tested and timed."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command_lines import Ended, Job, metrics_of

pytestmark = pytest.mark.slow

QUANTISED = """
_base_ = {base!r}
compression = dict(
    _delete_=True, input_shape=(3, 32, 32), quant=dict(bits=[4, 8]))
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
                 '--out', out, cwd=config.parent)
    assert ended.code == 0, ended
    return out


def test_latency_as_a_target(policy: Path) -> None:
    facts = json.loads(policy.read_text())['facts']
    assert 0 < facts['costs']['latency_ms'] < 1000
    rows = list(csv.DictReader((policy.parents[1] / 'tradeoff.csv').open()))
    assert all(float(row['latency_ms']) > 0 for row in rows)
    assert (policy.parents[1] / 'latency.json').is_file()


def test_accuracy_of_the_file(
    tool: Callable[..., Ended], policy: Path, file: Path, tmp_path: Path
) -> None:
    config, found = policy.parents[3] / 'quantised.py', []
    for name, args in dict(
            model=[policy.with_suffix('.pth'), '--policy', policy],
            file=[file, '--backend', 'onnxruntime']).items():
        out = tmp_path / f'{name}.json'
        ended = tool('test', config, *args, '--out', out, cwd=config.parent)
        assert ended.code == 0, ended
        found.append(metrics_of(out)['accuracy/top1'])
    # 100 test images: at most two of them change sides.
    assert found[1] == pytest.approx(found[0], abs=2.0)


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
