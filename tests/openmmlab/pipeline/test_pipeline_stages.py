"""A stage is done once, and again if its settings or its files are others."""

import json
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from mmcompress.errors import CompressionError
from mmcompress.openmmlab.pipeline import console as console_module
from mmcompress.openmmlab.pipeline import stages as kinds
from mmcompress.openmmlab.pipeline.console import Console, clock
from mmcompress.openmmlab.pipeline.networks import Network
from mmcompress.openmmlab.pipeline.options import CompressOptions, complete
from mmcompress.openmmlab.pipeline.stages import Stages, Tuned


def stages_in(folder: Path) -> Stages:
    # Not a fixture: the console writes to what is standard output when it is made.
    return Stages(Console(folder / 'log.txt', 9))


def test_done_once(tmp_path, capfd):
    stages, calls = stages_in(tmp_path), []

    def work(progress) -> kinds.Tested:
        calls.append(progress)
        print('of no interest')
        return kinds.Tested(metrics={'mAP': 0.5})

    path = tmp_path / 'stage.json'
    for settings in ([1, 'a'], [1, 'a'], [2, 'a']):
        found = stages.do('test it', path, settings, kinds.Tested, work)
        assert found.metrics == {'mAP': 0.5}
    assert len(calls) == 2  # the second call found the first one's result
    assert 'of no interest' in (tmp_path / 'log.txt').read_text()
    shown = capfd.readouterr().out
    assert 'of no interest' not in shown and '[2/9] test it: done before' in shown


def test_failed_or_damaged_is_not_done(tmp_path):
    stages = stages_in(tmp_path)
    path, made = tmp_path / 'stage.json', tmp_path / 'weights.pth'

    def fail(progress) -> Tuned:
        raise CompressionError('it went wrong')

    def work(progress) -> Tuned:
        made.write_text(made.read_text() + 'x' if made.exists() else 'x')
        return Tuned(checkpoint=str(made), files=(str(made),))

    with pytest.raises(CompressionError):
        stages.do('tune', path, 0, Tuned, fail)
    assert not path.exists() and not sys.stdout.closed
    stages.do('tune', path, 0, Tuned, work)
    stages.do('tune', path, 0, Tuned, work)
    assert made.read_text() == 'x'
    path.write_text('{')
    stages.do('tune', path, 0, Tuned, work)
    assert made.read_text() == 'xx'
    made.unlink()
    stages.do('tune', path, 0, Tuned, work)
    assert made.read_text() == 'x'


def test_time_left_where_there_is_no_terminal(tmp_path, capfd, monkeypatch):
    stages = stages_in(tmp_path)
    now = iter([0.0, 0.0, 90.0, 120.0, 125.0, 150.0, 200.0])
    monkeypatch.setattr(console_module, 'perf_counter', lambda: next(now))
    with stages.console.stage('tune') as progress:
        progress(1, 5)  # after 90 s, in which much was prepared
        progress(2, 5)  # 30 s more: 90 s for the other three
        progress(2, 5)  # too soon
        progress(4, 5)  # 60 s for three: 20 s
    lines = capfd.readouterr().out.splitlines()
    assert lines[:3] == [
        '[1/9] tune ...', '    2/5, 1:30 min left', '    4/5, 20 s left']
    assert lines[3] == '[1/9] tune: 3:20 min'


def test_clock():
    assert [clock(s) for s in (7.6, 125, 3725)] == ['8 s', '2:05 min', '1:02:05 h']


def test_unknown_keys_are_refused():
    cfg = Config(dict(compress_cfg=dict(epoch=3)))
    with pytest.raises(CompressionError, match="Did you mean 'epochs'"):
        CompressOptions.of(cfg)
    cfg.compress_cfg = dict(epochs=3, int8=True)
    found = CompressOptions.of(cfg, epochs=4, int8=None)
    assert found.epochs == 4 and found.int8


@pytest.mark.parametrize('given, rate', [({}, 0.05), (dict(int8_lr=0.3), 0.3)])
def test_the_rate_in_8_bits_is_a_tenth_of_that_before(
    tmp_path, monkeypatch, given, rate
):
    cfg = Config(dict(
        work_dir=str(tmp_path), train_cfg=dict(max_epochs=9),
        optim_wrapper=dict(optimizer=dict(lr=1.0))))
    options = CompressOptions(
        int8=True, int8_epochs=2, lr=0.7,
        finetune=dict(optim_wrapper=dict(optimizer=dict(lr=0.5))), **given)
    found = []
    monkeypatch.setattr(Network, '_train', lambda *args: found.append(args[3]))
    network = Network('macs_0.5', cfg, options, stages_in(tmp_path), None, '')
    network.tune_int8(kinds.Exported(policy='int8.json'), 'accuracy/top1')
    assert found[0].optim_wrapper.optimizer.lr == pytest.approx(rate)
    assert found[0].train_cfg.max_epochs == 2


def test_any_config_can_be_completed():
    cfg = Config(dict(val_evaluator=[dict(type='mmdet.CocoMetric')]))
    with pytest.raises(CompressionError, match='There is no budget'):
        complete(cfg, None)
    complete(cfg, dict(macs=[0.5]))
    assert cfg.search_cfg.evaluator.metric == 'coco/bbox_mAP'
    # Candidates are repaired, in the order and by the prices that go with it.
    assert cfg.compression.channel.importance == 'obs'
    assert cfg.search_cfg.searcher.type == 'TwoStage'
    assert cfg.search_cfg.prices.type == 'ReconstructionPrices'
    # Budgets of the command line have a study of their own, those of the config not.
    assert cfg.search_cfg.study == 'search macs=[0.5]'
    before = json.dumps(cfg.search_cfg)
    complete(cfg, dict(macs=[0.5]))
    assert json.dumps(cfg.search_cfg) == before
    complete(cfg, dict(latency_ms=[4.0]), CompressOptions(threads=2))
    assert cfg.search_cfg.latency == dict(backend='onnxruntime', threads=2)
    with pytest.raises(CompressionError, match="evaluator=dict\\(metric="):
        complete(Config(dict(val_evaluator=dict(type='Mine'))), dict(macs=[0.5]))
