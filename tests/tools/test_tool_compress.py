"""One command from a config to tested files, killed anywhere and run again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from command_lines import Ended, Job, command, environment, metrics_of

import mmcompress as mmc
from mmcompress.openmmlab.pipeline import networks, run
from mmcompress.report import load_results

OPTIONS = ('--int8', '--epochs', '1', '--cfg-options',
           'search_cfg.searcher.evaluations=4', 'compress_cfg.repeats=3',
           'compress_cfg.calibration_images=8', 'compress_cfg.lr=0.05')
STAGES = ['as trained', 'file', '8 bits', '8-bit file']
SLIM = ['as searched', 'fine-tuned', 'file', '8 bits', '8-bit file']
NAMES = ['macs_0.75', 'macs_0.5']


def run_compress(tool, job: Job, work_dir: Path, *options: str) -> Ended:
    return tool('compress', job.config, '--work-dir', work_dir, *(options or OPTIONS),
                cwd=job.folder)


def written(work_dir: Path) -> dict[str, int]:
    """When the result of every stage was written."""
    stages = 'searched', 'tuned', 'exported', 'tested', 'timed'
    return {str(path.relative_to(work_dir)): path.stat().st_mtime_ns
            for path in (work_dir / 'networks').rglob('*.json')
            if path.stem.startswith(stages)}


def metrics(work_dir: Path) -> list[tuple]:
    """What an interruption must not change."""
    return [(row.network, row.stage, row.metric, row.size_bytes, dict(row.costs))
            for row in load_results(work_dir).rows]


@pytest.fixture(scope='module')
def compressed(tool, job: Job, tmp_path_factory) -> Path:
    """The work dir of a compression that nothing interrupted."""
    work_dir = tmp_path_factory.mktemp('compressed')
    ended = run_compress(tool, job, work_dir)
    assert ended.code == 0, ended
    return work_dir


def test_one_table(compressed: Path) -> None:
    results = load_results(compressed)
    assert [(row.network, row.stage) for row in results.rows] == [
        ('dense', stage) for stage in STAGES] + [
        (name, stage) for name in NAMES for stage in SLIM]
    assert results.metric == 'accuracy/top1'
    dense = results['dense', 'as trained']
    for row in results.rows:
        assert 0 <= row.metric <= 100
        assert (row.milliseconds is not None) == row.stage.endswith('file')
        share = row.costs['macs'] / dense.costs['macs']
        assert share <= (1 if row.network == 'dense' else float(row.network[5:]))
        if row.stage.startswith('8'):
            # 7 x 8 bit operations a MAC instead of 32 x 32, but for float layers.
            assert row.costs['bops'] < 0.5 * 1024 * row.costs['macs']
    for name in ('dense', *NAMES):
        own = {row.stage: row for row in results.rows if row.network == name}
        said = f'{name}: its file in float is faster than that in 8 bits.'
        assert (said in results.notes) == (
            own['8-bit file'].milliseconds > own['file'].milliseconds)
    sizes = [results[name, '8-bit file'].size_bytes for name in ('dense', *NAMES)]
    assert results['dense', 'file'].size_bytes > sizes[0] > sizes[1] > sizes[2]
    assert results['dense', 'file'].metric == pytest.approx(dense.metric, abs=1.0)


def test_a_search_by_a_distance_is_reported_by_the_test_set(
    tool, job: Job, tmp_path: Path
) -> None:
    ended = run_compress(
        tool, job, tmp_path, '--epochs', '1', '--targets', 'macs=0.5', '--cfg-options',
        'search_cfg.searcher.evaluations=2', 'search_cfg.evaluator.metric=distance',
        'compress_cfg.repeats=3', 'compress_cfg.lr=300')
    assert ended.code == 0, ended
    results = load_results(tmp_path)
    assert results.metric == 'accuracy/top1'
    assert all(0 < row.metric <= 100 for row in results.rows)
    assert any('training images (accuracy/top1 ' in note for note in results.notes)


def test_it_is_written_for_people(compressed: Path) -> None:
    page = (compressed / 'report.html').read_text()
    assert '<h2>Results</h2>' in page and '8-bit file' in page
    lines = (compressed / 'results.csv').read_text().splitlines()
    assert lines[0].split(',')[-2:] == ['accuracy/top1', 'milliseconds']
    assert len(lines) == 1 + 4 + 2 * 5
    assert 'macs_0.5: ' in (compressed / 'results.md').read_text()


@pytest.mark.parametrize('stage', ['fine-tuned', '8 bits', '8-bit file'])
def test_other_tools_agree(
    stage: str, compressed: Path, tool, job: Job, tmp_path: Path
) -> None:
    row, out = load_results(compressed)['macs_0.5', stage], tmp_path / 'metrics.json'
    policy = {'fine-tuned': compressed / 'policies/macs_0.5.json',
              '8 bits': Path(row.path).with_suffix('.json')}.get(stage)
    options = ['--policy', policy] if policy else ['--backend', 'onnxruntime']
    ended = tool('test', job.config, row.path, *options, '--out', out, '--work-dir',
                 tmp_path, cwd=job.folder)
    assert ended.code == 0, ended
    assert metrics_of(out)['accuracy/top1'] == row.metric


def test_the_same_command_does_nothing_again(
    compressed: Path, tool, job: Job, capfd
) -> None:
    before, results = written(compressed), metrics(compressed)
    assert run_compress(tool, job, compressed).code == 0
    assert written(compressed) == before and metrics(compressed) == results
    shown = capfd.readouterr().out
    assert shown.count('done before') == len(before)
    assert f'[{len(before)}/{len(before)}] ' in shown


def test_python_takes_over_what_the_command_did(
    compressed: Path, job: Job, monkeypatch
) -> None:
    monkeypatch.chdir(job.folder)
    before, wanted = written(compressed), metrics(compressed)
    results = mmc.compress(
        str(job.config), work_dir=str(compressed), int8=True, epochs=1, repeats=3,
        calibration_images=8, lr=0.05, overrides={'search_cfg.searcher.evaluations': 4})
    assert written(compressed) == before
    assert [(row.network, row.stage, row.metric, row.size_bytes, dict(row.costs))
            for row in results.rows] == wanted


INTERRUPTED = dict(
    search=(run.SearchSteps, 'after_evaluation', 2),
    tune=(networks.Steps, 'after_train_iter', 15),
    export=(networks, 'export_checkpoint', 1),
    test=(networks, 'score_on_test_set', 1),
    time=(run, 'time_files', 1))
"""By stage: what raises, and when it is called for which time."""


def interrupted(function: Callable, number: int) -> Callable:
    """A function whose call of a number is interrupted, as by Ctrl-C."""
    calls = count(1)

    def called(*args, **options):
        if next(calls) == number:
            raise KeyboardInterrupt
        return function(*args, **options)

    return called


def test_interrupted_in_every_stage(
    compressed: Path, tool, job: Job, tmp_path: Path, monkeypatch
) -> None:
    before: dict[str, int] = {}
    for owner, name, number in INTERRUPTED.values():
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, interrupted(getattr(owner, name), number))
            ended = run_compress(tool, job, tmp_path)
        assert ended.code == 130
        # No stage that was done is done again.
        after = written(tmp_path)
        assert before == {name: after[name] for name in before}
        before = after
    assert run_compress(tool, job, tmp_path).code == 0
    after = written(tmp_path)
    assert before == {name: after[name] for name in before}
    assert metrics(tmp_path) == metrics(compressed)


@pytest.mark.slow
def test_killed_and_run_again(tool, job: Job, compressed: Path, tmp_path: Path) -> None:
    child = subprocess.Popen(
        command('compress', job.config, '--work-dir', tmp_path, *OPTIONS),
        cwd=job.folder, env=environment(), stdout=subprocess.PIPE, text=True)
    for line in child.stdout:
        if 'fine-tune macs_0.5 ...' in line:
            os.kill(child.pid, signal.SIGKILL)
            break
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    before = written(tmp_path)
    assert 'networks/macs_0.75/tuned.json' in before
    assert run_compress(tool, job, tmp_path).code == 0
    assert before == {name: written(tmp_path)[name] for name in before}
    assert metrics(tmp_path) == metrics(compressed)


MISTAKES = {
    'int8_of_bits': (['--int8', '--cfg-options', 'compression.quant.bits=[8]'],
                     'chooses bits'),
    'no_weights': (['--cfg-options', 'load_from=None'], 'has no load_from'),
    'no_test_set': (['--cfg-options', 'test_dataloader=None', 'test_evaluator=None',
                     'test_cfg=None'], 'no test_dataloader'),
    'key': (['--cfg-options', 'compress_cfg.epoch=3'], "Did you mean 'epochs'"),
    'target': (['--targets', 'macs=half'], 'is not of the form COST=VALUE'),
    'int8_epochs': (['--int8-epochs', '3'], 'add --int8, or leave'),
    'launcher': (['--launcher', 'pytorch'], 'leave --launcher out'),
}


@pytest.mark.parametrize('case', MISTAKES)
def test_mistakes_show_before_the_work(case: str, tool, job: Job, tmp_path) -> None:
    options, message = MISTAKES[case]
    ended = run_compress(tool, job, tmp_path, *options)
    assert ended.code == 1 and message in ended.message, ended
    assert not list(tmp_path.rglob('*.json'))


def test_export_of_any_checkpoint(tool, job: Job, tmp_path: Path, capsys) -> None:
    out, model = tmp_path / 'net.onnx', tmp_path / 'twin.json'
    ended = tool('export', job.config, job.checkpoint, '--int8', '--int8-limit', '0.5',
                 '--out', out, '--model-out', model, cwd=job.folder)
    assert ended.code == 0, ended
    assert '8 layers in 8 bits; error' in capsys.readouterr().out
    scores = []
    for args in ([model.with_suffix('.pth'), '--policy', model],
                 [out, '--backend', 'onnxruntime']):
        ended = tool('test', job.config, *args, '--out', tmp_path / 'metrics.json',
                     '--work-dir', tmp_path, cwd=job.folder)
        assert ended.code == 0, ended
        scores.append(metrics_of(tmp_path / 'metrics.json')['accuracy/top1'])
    assert scores[0] == pytest.approx(scores[1], abs=1.0)
    ended = tool('export', job.config, job.checkpoint, '--int8', '--skip', 'nobody',
                 '--out', out, cwd=job.folder)
    assert ended.code == 1 and 'matches no layer' in ended.message
    ended = tool('export', job.config, job.checkpoint, '--skip', 'first',
                 cwd=job.folder)
    assert ended.code == 1 and 'are for --int8' in ended.message


def test_a_fine_tune_that_ruins_is_not_gone_on_with(
    tool, job: Job, compressed: Path, tmp_path: Path
) -> None:
    mine = tmp_path / 'mine'
    shutil.copytree(compressed, mine)
    assert run_compress(tool, job, mine, *OPTIONS, 'compress_cfg.lr=300').code == 0
    results = load_results(mine)
    tuned = json.loads((mine / 'networks/macs_0.5/tuned.json').read_text())
    # The digits are tested on what the config validates on; so training images.
    assert tuned['images'] == '200 training images'
    assert tuned['after'] < 20 < tuned['before']
    searched, ruined, plain, eight, file = (
        results['macs_0.5', stage].metric for stage in SLIM)
    assert ruined < 20 < searched == plain
    assert eight == pytest.approx(searched, abs=5) == file
    note, = (x for x in results.notes if x.startswith('macs_0.5: fine-tuning made'))
    assert f"accuracy/top1 {tuned['before']:.4g}, then" in note
    assert '200 training images' in note and 'compress_cfg.lr' in note


@pytest.mark.parametrize('rate', [0.05, 300.0], ids=['helps', 'ruins'])
def test_a_fine_tune_in_8_bits(
    rate: float, tool, job: Job, compressed: Path, tmp_path: Path
) -> None:
    mine = tmp_path / 'mine'
    shutil.copytree(compressed, mine)
    before, usual = written(mine), load_results(compressed)
    assert run_compress(tool, job, mine, *OPTIONS, 'compress_cfg.int8_epochs=6',
                        f'compress_cfg.int8_lr={rate}').code == 0
    results, after = load_results(mine), written(mine)
    assert [row.stage for row in results.rows if row.network == 'macs_0.5'] == [
        *SLIM[:4], '8 bits fine-tuned', '8-bit file']
    changed = {name for name in before if after[name] != before[name]}
    first, last = usual['macs_0.5', '8-bit file'], results['macs_0.5', '8-bit file']
    tuned = results['macs_0.5', '8 bits fine-tuned']
    if rate > 1:
        # The file is that of the network before.
        assert not changed and Path(last.path).name == 'int8.onnx'
        assert tuned.metric < 20 < last.metric == first.metric
        assert any('in 8 bits made it worse' in note for note in results.notes)
        return
    assert changed == {'networks/timed.json'} | {
        f'networks/{name}/tested_8-bit_file.json' for name in NAMES}
    assert Path(last.path).name == 'int8_tuned.onnx'
    assert last.metric == pytest.approx(tuned.metric, abs=1.0)
    assert last.size_bytes == pytest.approx(first.size_bytes, rel=0.02)
    assert last.costs == first.costs


def test_another_setting_repeats_what_it_changes(
    tool, job: Job, compressed: Path
) -> None:
    # The last test: it changes what the others share.
    before = written(compressed)
    options = [x if x != '1' else '2' for x in OPTIONS]
    assert run_compress(tool, job, compressed, *options).code == 0
    after = written(compressed)
    changed = {name for name in before if after[name] != before[name]}
    slim = {name for name in before if 'macs' in name}
    assert changed == slim - {
        f'networks/{name}/tested_as_searched.json' for name in NAMES} | {
        'networks/timed.json'}
    tuned = json.loads((compressed / 'networks/macs_0.5/tuned.json').read_text())
    assert Path(tuned['checkpoint']).name == 'epoch_2.pth'
