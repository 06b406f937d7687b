"""Networks are chosen by images that nobody reports on."""

from __future__ import annotations

from math import nan

import pytest
from mmengine.config import Config

from mmcompress.openmmlab.pipeline.judging import validation_set
from mmcompress.openmmlab.pipeline.stages import Tuned


def config(val: dict | None, test: dict, **more) -> Config:
    return Config(dict(
        val_dataloader=val and dict(dataset=val), test_dataloader=dict(dataset=test),
        val_evaluator=dict(type='Accuracy'), **more))


def test_a_validation_set_of_its_own() -> None:
    val, test = (dict(type='CocoDataset', ann_file=f'{name}.json', pipeline=[])
                 for name in ('val', 'test'))
    cfg = config(val, test)
    assert validation_set(cfg) == val
    validation_set(cfg)['ann_file'] = 'other'
    assert cfg.val_dataloader.dataset.ann_file == 'val.json'


@pytest.mark.parametrize('cfg', [
    config(dict(split='test', pipeline=[1]), dict(split='test', pipeline=[2])),
    config(dict(split='test'), dict(split='test', test_mode=True)),
    config(None, dict(split='test')),
    Config(dict(val_dataloader=dict(dataset=dict(split='val')),
                test_dataloader=dict(dataset=dict(split='test')), val_evaluator=None)),
])
def test_the_test_set_is_none(cfg: Config) -> None:
    assert validation_set(cfg) is None


@pytest.mark.parametrize('before, after, worse', [
    (30.0, 29.9, True), (30.0, 30.0, False), (30.0, 31.0, False),
    # Nothing was detected after the training; or never.
    (30.0, nan, True), (nan, nan, False), (nan, 1.0, False)])
def test_worse(before: float, after: float, worse: bool) -> None:
    assert Tuned(before=before, after=after).is_worse is worse
