"""Prices of a real detector's choices."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmcompress.openmmlab.cli import load_weights, search_runner
from mmcompress.openmmlab.loops.search import PolicySearchLoop
from mmcompress.prices import Subject
from mmcompress.prices.gradient import GradientPrices


@pytest.mark.slow
def test_prices_of_yolox(shared_data, repo, tmp_path, monkeypatch):
    monkeypatch.chdir(repo)
    cfg = Config.fromfile('configs/two_stage/two_stage_yolox-nano_coco128.py')
    cfg.work_dir = str(tmp_path)
    init_default_scope(cfg.default_scope)
    cfg.search_cfg.searcher = dict(type='Random')
    cfg.search_cfg.evaluator.update(images=4, calibration_images=4)
    cfg.search_cfg.targets = dict(bops=[0.1])
    runner = search_runner(cfg)
    load_weights(runner.model, cfg.load_from)
    loop = PolicySearchLoop(
        runner, **{k: v for k, v in cfg.search_cfg.items() if k != 'type'})
    loop.prepare()
    subject = Subject(loop.model, loop.graph, loop.space, loop.mutator,
                      loop.evaluator, lambda _: None)
    before = {k: v.clone() for k, v in loop.model.state_dict().items()}
    table = GradientPrices(4, 4).compute(subject, tmp_path)
    assert all(torch.equal(v, before[k]) for k, v in loop.model.state_dict().items())
    assert (table.price >= 0).all() and table.price.any()
    # Fewer bits cost more, in nearly every layer.
    u, n = len(loop.space.units), len(loop.space.layers)
    rows, fewer = [], []
    for column in range(u, u + n):
        if len(loop.space.choices[column]) > 1:
            for part, bits in ((rows, 8), (fewer, 4)):
                row = loop.space.highest.copy()
                row[column] = bits
                part.append(row)
    more = table.of_rows(np.array(fewer)) > table.of_rows(np.array(rows))
    assert more.mean() > 0.9
