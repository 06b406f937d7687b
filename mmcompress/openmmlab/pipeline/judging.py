"""Whether training made a network better, on images that the table is not made of."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from math import nan
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device

from ...plain import plain
from ...registry import EVALUATORS, build
from ..cli import build_model, load_weights
from ..evaluators import IMAGES, DatasetEvaluator
from ..images import build_dataset
from ..policy_config import compress_config

SAME_IMAGES = ('pipeline', 'test_mode', 'metainfo')
"""Options of datasets that do not say which images they have."""


def validation_set(cfg: Config) -> dict | None:
    """Dataset to choose networks by, if the config has one that is not its test set.

    Many configs test on the images that they validate on; whoever chose by these would
    report on what was chosen by.
    """
    def images(name: str) -> Any:
        dataset = (cfg.get(name) or {}).get('dataset') or {}
        return plain({k: v for k, v in dataset.items() if k not in SAME_IMAGES})

    found = images('val_dataloader')
    if not found or not cfg.get('val_evaluator') or found == images('test_dataloader'):
        return None
    return copy.deepcopy(dict(cfg.val_dataloader['dataset']))


def judge(
    cfg: Config, metric: str, policy: str, checkpoints: Mapping[str, str]
) -> tuple[dict[str, float], str]:
    """Scores of checkpoints of one network on validation images.

    Where the config has no validation set of its own, these are the training images
    that the search scores on.

    Args:
        cfg (Config): Config of the dense model, with its search.
        metric (str): What the table shows.
        policy (str): Policy file of the network.
        checkpoints (Mapping[str, str]): Its weights, by name.

    Returns:
        tuple[dict[str, float], str]: The scores, higher is better, NaN if nothing was
        detected; and which images, for people.
    """
    settings = dict(cfg.search_cfg['evaluator'])
    # The rule is that of the search, which may go by another metric.
    is_less = settings.get('rule') == 'less' and settings.get('metric') == metric
    kept = {key: settings[key] for key in ('images', 'seed', 'batch_size', 'dataset',
                                           'evaluator') if key in settings}
    dataset, which = validation_set(cfg), 'training'
    if dataset is not None:
        kept.pop('evaluator', None)
        count = min(len(build_dataset(dataset)), kept.get('images') or IMAGES)
        kept.update(dataset=dataset, images=count)
        which = 'validation'
    evaluator: DatasetEvaluator = build(EVALUATORS, dict(
        kept, type='PolicyEvaluator', metric='all', calibration_images=0,
        dynamic_bn='off'))
    slim = copy.deepcopy(cfg)
    compress_config(slim, policy, next(iter(checkpoints.values())))
    model = build_model(slim).to(get_device())
    evaluator.prepare(model, cfg)
    scores = {}
    for name, checkpoint in checkpoints.items():
        load_weights(model, checkpoint)
        with torch.no_grad():
            found = evaluator.metrics_of(model)
        value = float(found.get(metric, nan))
        scores[name] = -value if is_less else value
    return scores, f'{evaluator.images} {which} images'
