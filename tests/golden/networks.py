"""Golden runs that no command line makes: networks traced, costed and materialised.

Run in the folder to write to: networks.py faster_rcnn, networks.py retinanet CONFIG
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mmcompress  # noqa: F401  isort: skip  (must precede mmdet)
import numpy as np
import torch
from adapter import find
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

POLICIES = 3
FASTER_RCNN = "_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'\n"
SHAPE = (3, 256, 320)
"""Of the image of Faster R-CNN: small, with other height than width."""


def faster_rcnn() -> None:
    """Trace, verify, cost and materialise a detector of two stages."""
    Path('config.py').write_text(FASTER_RCNN)
    model = build(Config.fromfile('config.py'))
    graph = find('verify')(model, find('trace')(model, SHAPE))
    space = find('SearchSpace').from_graph(
        graph, divisor=8, min_ratio=0.25, weight_bits=(4, 6, 8, 32),
        activation_bits=(6, 8, 32))
    write_graph(graph, space)
    policy = space.decode(random_rows(space)[:1])[0]
    rng = np.random.default_rng(1)
    channels = {
        unit.name: np.sort(rng.choice(unit.width, policy.widths[unit.name], False))
        for unit in graph.units}
    slim = find('materialise')(model, graph, policy, channels).eval()
    np.savez('outputs.npz', **{
        f'{i:02}': x.numpy() for i, x in enumerate(tensors(outputs(slim)))})


def retinanet(config: str) -> None:
    """The cost table of a detector of one stage at the shape of its config."""
    cfg = Config.fromfile(config)
    model = build(cfg)
    graph = find('verify')(
        model, find('trace')(model, find('input_shape_of')(cfg)))
    space = find('SearchSpace').from_graph(graph, divisor=16, min_ratio=0.1)
    write_graph(graph, space)
    rows = np.concatenate([
        space.highest[None], space.lowest[None], random_rows(space)])
    widths = torch.as_tensor(rows[:, :len(graph.units)])
    table = find('CostTable').from_graph(graph)
    out, into = table.channels(widths)
    np.savez(
        'table.npz', out=out, into=into, weights=table.weights(widths),
        activations=table.activations(widths))


def build(cfg: Config) -> nn.Module:
    """A detector with seeded weights, nothing downloaded."""
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model).eval()
    # New norms are all alike, and hide which of their channels were taken.
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def random_rows(space: Any) -> np.ndarray:
    """Rows of random policies of a search space, every column drawn evenly."""
    rng = np.random.default_rng(0)
    return np.array([[rng.choice(c) for c in space.choices] for _ in range(POLICIES)])


def write_graph(graph: Any, space: Any) -> None:
    """Write what was traced, and what the dense network and random policies cost."""
    costs = find('Costs')(find('CostTable').from_graph(graph), space)
    Path('graph.json').write_text(json.dumps(dict(
        fingerprint=graph.fingerprint, input_shape=graph.input_shape,
        trace_shape=graph.trace_shape, params=graph.params, excluded=graph.excluded,
        unsupported=graph.unsupported, unvisited=graph.unvisited,
        fixed_macs=graph.fixed_macs,
        units=[[unit.name, unit.width, unit.granularity] for unit in graph.units],
        layers=[[x.name, x.kind, x.out_channels, x.in_channels, x.groups, x.kernel,
                 x.has_bias, x.positions, x.calls, x.reads, x.writes, x.macs]
                for x in graph.layers],
        dense=costs.dense(),
        policies=[costs.of(policy) for policy in space.decode(random_rows(space))],
    ), indent=1))


@torch.no_grad()
def outputs(model: nn.Module) -> list:
    """Raw outputs of Faster R-CNN's neck and heads, with mmdet's own methods.

    The regions are given: which ones an RPN proposes hangs on rounding.
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.randn((1, *SHAPE), generator=generator)
    corners = torch.rand((8, 2), generator=generator) * 128
    sizes = 16 + torch.rand((8, 2), generator=generator) * 100
    regions = torch.cat([torch.zeros(8, 1), corners, corners + sizes], 1)
    features = model.extract_feat(image)
    head = model.roi_head
    read = head.bbox_roi_extractor(
        features[:head.bbox_roi_extractor.num_inputs], regions)
    return [features, model.rpn_head(features), head.bbox_head(read)]


def tensors(nested: Any) -> Iterator[Tensor]:
    """All tensors of nested sequences, in order."""
    if isinstance(nested, Tensor):
        yield nested
    else:
        for part in nested:
            yield from tensors(part)


if __name__ == '__main__':
    dict(faster_rcnn=faster_rcnn, retinanet=retinanet)[sys.argv[1]](*sys.argv[2:])
