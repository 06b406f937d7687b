"""Searching a supernet: by labels, by stage losses, by a knapsack over stages."""

import numpy as np
import pytest
from supernet_training import make_config, trained

from mmcompress.errors import CompressionError
from mmcompress.latency import measure as latency
from mmcompress.openmmlab.cli import load_weights, search_runner
from mmcompress.openmmlab.loops.search import PolicySearchLoop
from mmcompress.policy import Policy
from mmcompress.policy.files import PolicyFile

CROSSING = ['backbone.conv1']
"""All blocks of widths 8, 8, 8 add to one residual stream."""


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp('supernet')
    trained(folder, random=1)
    return str(folder / 'epoch_2.pth')


def loop_of(work_dir, checkpoint, channel=None, **search) -> PolicySearchLoop:
    cfg = make_config(work_dir, random=1)
    cfg.load_from = checkpoint
    cfg.compression.channel.update(channel or {})
    search = dict(dict(targets=dict(macs=[0.7, 0.5])), **search)
    cfg.search_cfg = search
    runner = search_runner(cfg)
    load_weights(runner.model, checkpoint)
    return PolicySearchLoop(runner, **search)


def evaluator(kind='PolicyEvaluator', **options):
    return dict(dict(type=kind, images=20, calibration_images=10), **options)


def test_islands_search_a_supernet_in_its_own_order(checkpoint, tmp_path):
    loop = loop_of(
        tmp_path, checkpoint,
        searcher=dict(type='Islands', evaluations=16, population=2, islands=2),
        evaluator=evaluator(metric='accuracy/top1'))
    loop.run()
    assert all((order == np.arange(len(order))).all()
               for order in loop.mutator.channel.order.values())
    assert len(loop.study.history()) == 16
    assert (tmp_path / 'policies' / 'macs_0.5.pth').is_file()


def test_a_latency_target_searches_by_the_table(checkpoint, tmp_path, monkeypatch):
    # 1 us per weight of a kernel's place, however busy this machine is: .424 ms.
    monkeypatch.setattr(latency.LayerTimer, 'layer',
                        lambda timer, shape, out, into, *_: 1e-3 * out * into)
    monkeypatch.setattr(latency, 'fit_networks', lambda *args: None)
    loop = loop_of(
        tmp_path, checkpoint, targets=dict(latency_ms=[0.2]),
        searcher=dict(type='Islands', evaluations=6, population=2, islands=2),
        evaluator=evaluator(metric='accuracy/top1'))
    loop.run()
    found = [e.costs['latency_ms'] for e in loop.study.history()]
    assert len(found) == 6 and 0 < min(found) <= max(found) <= 0.2
    facts = PolicyFile.load(tmp_path / 'policies' / 'latency_ms_0.2.json').facts
    assert facts['costs']['latency_ms'] in found


def test_stage_losses_need_no_labels_and_rank_the_dense_network_first(
        checkpoint, tmp_path):
    loop = loop_of(
        tmp_path, checkpoint, searcher=dict(type='Random', evaluations=6),
        evaluator=evaluator('StageLossEvaluator'))
    loop.run()
    assert loop.dense_score == 0
    assert all(e.score < 0 for e in loop.study.history())
    entry = loop.study.history()[0]
    stages = {k: v for k, v in entry.metrics.items() if k != 'stage_loss'}
    assert sum(stages.values()) == pytest.approx(entry.metrics['stage_loss'])
    assert -entry.score == pytest.approx(entry.metrics['stage_loss'])


def test_a_knapsack_over_stages(checkpoint, tmp_path):
    loop = loop_of(
        tmp_path, checkpoint, channel=dict(dense=CROSSING),
        searcher=dict(type='TwoStage', evaluations=6),
        evaluator=evaluator(metric='accuracy/top1'),
        prices=dict(type='StageLossPrices', images=10, choices=16))
    loop.run()
    table = loop.searcher.prices
    # Prices are losses of stages, and costs add up over the stages.
    dense, = loop.space.encode(Policy())
    total = float(loop.costs.of_rows('macs', dense))
    picks = table.picks_of(loop.searcher.solutions(loop.targets[1])[0])[0]
    alone = loop.costs.of_rows('macs', table.variants(dense, picks)).numpy()
    both = float(loop.costs.of_rows('macs', table.row(picks)))
    assert total - both == pytest.approx((total - alone).sum())
    assert all(t.met_by(e.costs) for e in loop.study.history()
               for t in [loop.targets[e.number % 2]])
    # Nothing lost at dense widths, less at larger budgets.
    assert table.of_rows(dense)[0] == 0
    prices = [table.of_rows(loop.searcher.solutions(t)[0])[0] for t in loop.targets]
    assert prices[0] <= prices[1]


def test_units_that_cross_a_boundary_are_refused(checkpoint, tmp_path):
    loop = loop_of(
        tmp_path, checkpoint, searcher=dict(type='TwoStage', evaluations=4),
        evaluator=evaluator(metric='accuracy/top1'),
        prices=dict(type='StageLossPrices', images=10, choices=16))
    with pytest.raises(CompressionError, match=r"'backbone.conv1' is not inside one"):
        loop.prepare()
