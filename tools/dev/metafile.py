"""Published policies as models of a method's metafile.yml, in OpenMMLab's form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mmcompress.files import write_text
from mmcompress.policy.published import PublishedPolicy, published_in

MARK = '  # Published policies; tools/dev/add_policy.py writes what follows.\n'
"""Line of a metafile above the models that come from policy files."""

METRICS = {
    'accuracy/top1': ('Image Classification', 'Top 1 Accuracy', 1),
    'accuracy/top5': ('Image Classification', 'Top 5 Accuracy', 1),
    'coco/bbox_mAP': ('Object Detection', 'box AP', 100),
    'coco/segm_mAP': ('Instance Segmentation', 'mask AP', 100),
}
"""By metric of the toolkit: task, name and scale that OpenMMLab gives it."""


def model_of(policy: PublishedPolicy, collection: str) -> dict[str, Any]:
    """A policy as an entry of ``Models``.

    There are no ``Weights``: a policy becomes a network by repair, from the weights of
    the dense one. The metafile has the plain model of a config first, as that is the
    one that mmengine finds.

    Args:
        policy (PublishedPolicy): The policy.
        collection (str): Name of the method's collection.
    """
    _, metric, scale = METRICS[policy.metric]
    method, stem = policy.name.split('/')
    return {
        'Name': f'{stem}_{method}', 'In Collection': collection,
        'Config': f'configs/{policy.config}',
        'Metadata': {
            'Training Data': policy.dataset,
            'FLOPs': int(policy.costs['macs']),
            'Parameters': int(policy.costs['params']),
            'Policy': f'configs/{method}/policies/{policy.path.name}',
            'Measured': policy.measured},
        'Results': [{
            'Task': policy.task, 'Dataset': policy.dataset,
            'Metrics': {metric: round(scale * policy.score, 2)}}]}


def models_of(policies: Sequence[PublishedPolicy], metafile: str) -> list[dict]:
    """The policies of a method as entries of its metafile.

    Args:
        policies (Sequence[PublishedPolicy]): The policies.
        metafile (str): The text of the metafile.
    """
    collection, = yaml.safe_load(metafile)['Collections']
    return [model_of(policy, collection['Name']) for policy in policies]


def write_models(configs: Path, method: str) -> Path:
    """Write the policies of a method into its metafile again.

    Args:
        configs (Path): The folder of all methods.
        method (str): Name of the method's folder.
    """
    path = configs / method / 'metafile.yml'
    text = path.read_text(encoding='utf-8')
    policies = [p for p in published_in(configs) if p.name.startswith(f'{method}/')]
    listed = yaml.safe_dump(
        models_of(policies, text), sort_keys=False, allow_unicode=True, width=100)
    lines = ''.join(f'  {line}\n' for line in listed.splitlines())
    return write_text(path, text.partition(MARK)[0] + MARK + lines)
