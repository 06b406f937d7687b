"""Data pipelines as configs have them, and what they make of images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS, init_default_scope

READ = dict(type='LoadImageFromFile')


def config_of(pipeline: list[dict]) -> Config:
    """A config that says how images are tested."""
    return Config(dict(test_dataloader=dict(dataset=dict(
        type='CocoDataset', pipeline=pipeline))))


def packed(pipeline: list[dict], folder: Path, scope: str) -> Iterator[dict]:
    """What a pipeline makes of the images of a folder, as batches of one image."""
    init_default_scope(scope)
    steps = Compose([TRANSFORMS.build(dict(step)) for step in pipeline])
    for path in sorted(folder.iterdir()):
        data = steps(dict(img_path=str(path), img_id=0, gt_label=0))
        yield dict(inputs=[data['inputs']], data_samples=[data['data_samples']])
