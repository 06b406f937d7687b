"""A folder of configs with published policies of a network that nobody built."""

from pathlib import Path

from mmcompress.policy import Policy
from mmcompress.policy.files import PolicyFile
from mmcompress.policy.published import ZOO

COSTS = {'macs': 50.0, 'bops': 51200.0, 'params': 30.0}


def facts(**changes) -> dict:
    """Facts of a published policy; ``changes`` replace what is published."""
    said = dict(
        network='ResNet-8', dataset='Digits', config='method/net.py',
        task='Image Classification', metric='accuracy/top1', score=91.5,
        dense_score=92.0, measured='100 test images', checkpoint='example.org/net.pth',
        weights='cafe', command='mmcompress search net.py',
        shares={'macs': 0.5, 'bops': 0.5, 'params': 0.6})
    return dict(score=-0.25, metric='distance', dense_score=0.0, searcher='TwoStage',
                costs=COSTS, **{ZOO: {**said, **changes}})


def write(configs: Path, name: str, **changes) -> Path:
    """Write the policy ``method/stem`` into a folder of configs."""
    method, stem = name.split('/')
    path = configs / method / 'policies' / f'{stem}.json'
    PolicyFile(Policy({'u': 4}), 'beef', (3, 8, 8), facts=facts(**changes)).save(path)
    return path
