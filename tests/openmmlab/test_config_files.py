"""Configs that are inherited from mmcompress."""

from pathlib import Path

import pytest

from mmcompress.openmmlab.config_files import (
    SCOPE,
    forget_scope,
    processed_dataset,
    read_config,
)

OWN = dict(type='CocoDataset', pipeline=['a'])
BARE = dict(type='CocoDataset')
MIXED = dict(type='MultiImageMixDataset', dataset=OWN, pipeline=['b'])


def test_types_belong_to_the_default_scope(tmp_path: Path) -> None:
    path = tmp_path / 'mine.py'
    path.write_text("_base_ = 'mmcompress::cifar/resnet20_cifar10.py'\n")
    cfg = read_config(path)
    assert cfg.default_scope == 'mmpretrain'
    assert cfg.model.type == 'ImageClassifier' and SCOPE not in cfg.model


def test_other_scopes_stay() -> None:
    part = dict(type='A', _scope_='mmcompress', parts=[
        dict(type='B', _scope_='mmdet'), dict(type='C', _scope_='mmcompress'), 1])
    forget_scope(part)
    assert part == dict(
        type='A', parts=[dict(type='B', _scope_='mmdet'), dict(type='C'), 1])


@pytest.mark.parametrize(('dataset', 'found'), [
    (OWN, OWN),
    (dict(type='RepeatDataset', dataset=dict(type='Subset', dataset=OWN)), OWN),
    (MIXED, MIXED),
    (dict(type='RepeatDataset', dataset=BARE), BARE),
    ({}, {})])
def test_the_outermost_dataset_with_a_pipeline(dataset: dict, found: dict) -> None:
    assert processed_dataset(dataset) is found or dataset == {} == found
