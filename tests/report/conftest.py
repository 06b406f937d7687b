"""A hand-made model and search for the report tests."""

import numpy as np
import pytest

from mmcompress.costs import Target
from mmcompress.policy import IN, OUT, ChannelUnit, Layer, Member, ModelGraph, Policy
from mmcompress.report import make_outcome
from mmcompress.searchers import Evaluated

DENSE = {'macs': 1000.0, 'params': 400.0, 'bops': 1024000.0, 'size_bytes': 1600.0}
TARGETS = (Target('macs', 0.75, 750.0), Target('macs', 0.5, 500.0),
           Target('macs', 0.1, 100.0))


def axis(width):
    return np.arange(width)[:, None]


@pytest.fixture
def graph():
    """Three convs with a unit between each pair, and one group-norm unit."""
    layers = (
        Layer('stem', 'conv', 8, 3, kernel=9, positions=4),
        Layer('body', 'conv', 16, 8, kernel=9, positions=4),
        Layer('head.cls', 'conv', 10, 16, kernel=1, positions=4))
    units = (
        ChannelUnit('stem', (Member('stem', OUT, axis(8)), Member('bn', OUT, axis(8)),
                             Member('body', IN, axis(8)))),
        ChannelUnit('body', (Member('body', OUT, np.arange(16).reshape(8, 2)),
                             Member('gn', OUT, np.arange(16).reshape(8, 2)),
                             Member('head.cls', IN, np.arange(16).reshape(8, 2))),
                    granularity=2))
    return ModelGraph(
        units, layers, params=400, norm_params={'bn': 2, 'gn': 2},
        input_shape=(3, 8, 8), fingerprint='abc',
        excluded={'neck<1>': 'sliced and zeroed outputs differ by 0.3'},
        unsupported={'aten::grid_sampler': 2}, unvisited=('aux',))


@pytest.fixture
def evaluated():
    """Make a scored policy: ``evaluated(number, score, macs, stem width)``."""

    def make(number, score, macs, stem=4, **more):
        costs = {'macs': float(macs), 'params': macs * 0.4, 'bops': macs * 1024.0,
                 'size_bytes': macs * 1.6, **more}
        return Evaluated(number, Policy({'stem': stem}), score, costs)

    return make


@pytest.fixture
def history(evaluated):
    """Four policies; number 3 ties with number 1 and is dearer."""
    return [evaluated(0, 0.20, 480, 3), evaluated(1, 0.31, 700, 6),
            evaluated(2, 1 / 3, 900, 7), evaluated(3, 0.31, 720, 5)]


@pytest.fixture
def outcome(history, graph):
    """What the search loop hands to the report."""
    return make_outcome(
        history, TARGETS, DENSE, 0.35, 'coco/bbox_mAP',
        {t.name: f'{t.name}.json' for t in TARGETS}, graph,
        {'model': 'Toy', 'seed': '0'}, searcher='Random', failures=1)
