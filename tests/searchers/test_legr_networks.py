"""LeGR on real networks: what it ranks, and training before scoring."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmcompress.costs import Costs, CostTable, parse_targets
from mmcompress.graph import trace
from mmcompress.mutators import ChannelMutator
from mmcompress.openmmlab.evaluators import DatasetEvaluator
from mmcompress.openmmlab.models.compressed import with_preprocessor
from mmcompress.policy import SearchSpace
from mmcompress.searchers import LeGR

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


def prepare(name, shape, divisor=1):
    """Config, model, mutator and searcher of a network with random weights."""
    cfg = Config.fromfile(CONFIGS / name)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(with_preprocessor(cfg.model, cfg.get('data_preprocessor')))
    mutator = ChannelMutator(divisor=divisor)
    mutator.prepare(model, trace(model.eval(), shape))
    space = SearchSpace.from_graph(mutator.graph, **mutator.space_options)
    costs = Costs(CostTable.from_graph(mutator.graph), space)
    targets = parse_targets({'macs': [0.8, 0.5, 0.2]}, costs)
    return cfg, model, mutator, LeGR(space, costs, targets, mutator.scores)


def check_family(searcher):
    """Ten random rankings: nested, within the budget, close to it."""
    for number in range(10):
        genotype = next(searcher._children({}, number, 0))
        policies = [searcher.policy_of(genotype, [t]) for t in searcher.targets]
        rows = searcher.space.encode(policies)
        assert (np.diff(rows, axis=0) <= 0).all()
        for target, policy in zip(searcher.targets, policies):
            assert target.met_by(searcher.costs.of(policy))
            assert searcher.costs.of(policy)['macs'] > 0.95 * target.limit


def test_resnet56_has_55_pairs():
    _, _, _, searcher = prepare('cifar/resnet56_cifar10.py', (3, 32, 32))
    assert len(searcher.ladder.layers) == 55
    assert searcher.costs.dense()['macs'] == pytest.approx(125.49e6, rel=1e-4)
    # The first policies: 10 % of 16, 32, 64 channels are 2, 4, 7.
    assert set(searcher.ladder.bottom[:30].tolist()) == {2, 4, 7}
    check_family(searcher)


@pytest.mark.slow
def test_a_detector_is_ranked_whole_and_trained_before_scoring(
    shared_data, monkeypatch
):
    monkeypatch.chdir(CONFIGS.parent)
    cfg, model, mutator, searcher = prepare(
        'yolox/yolox_nano_coco128.py', (3, 416, 416), divisor=4)
    parts = {layer.split('.')[0] for layer in searcher.ladder.layers}
    assert parts == {'backbone', 'neck', 'bbox_head'}
    check_family(searcher)
    cfg.train_dataloader.dataset.dataset.data_root = f'{shared_data}/coco128/'
    evaluator = DatasetEvaluator(
        'coco/bbox_mAP', images=4, calibration_images=2, batch_size=2,
        finetune=dict(steps=1, batch_size=2, lr=1e-4))
    evaluator.prepare(model, cfg)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    policy = searcher.policy_of(searcher.identity, searcher.targets[:1])
    scores = [evaluator.evaluate(policy, mutator).value for _ in range(2)]
    assert np.isfinite(scores[0]) and scores[0] == scores[1]
    after = model.state_dict()
    assert all(torch.equal(after[k], before[k]) for k in before)
