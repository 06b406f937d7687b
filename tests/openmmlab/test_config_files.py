"""Configs that are inherited from mmcompress."""

from pathlib import Path

from mmcompress.openmmlab.config_files import SCOPE, forget_scope, read_config


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
