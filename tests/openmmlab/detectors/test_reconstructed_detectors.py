"""A policy, a detector and images as tensors give a repaired detector."""

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from small_detectors import small
from torch import nn

import mmcompress as mmc
from mmcompress.data.images import Batch
from mmcompress.graph import trace
from mmcompress.openmmlab.detectors.inputs import detector_samples
from mmcompress.policy import Bits, Policy
from mmcompress.policy.files import PolicyFile

SHAPE = (3, 64, 64)


@pytest.fixture(params=['yolox', 'faster_rcnn'])
def dense(request) -> nn.Module:
    init_default_scope('mmdet')
    torch.manual_seed(0)
    return MODELS.build(small(request.param)).eval()


@pytest.mark.parametrize('quantised', [False, True], ids=['widths', 'and bits'])
def test_images_alone_are_enough(dense, quantised):
    graph = trace(dense, SHAPE)
    widths = {unit.name: -(-3 * unit.width // 4) for unit in graph.units}
    bits = {graph.layers[1].name: Bits(8, 8)} if quantised else {}
    file = PolicyFile(Policy(widths, bits), graph.fingerprint, SHAPE)
    images = torch.randn(8, *SHAPE).split(4)
    slim = mmc.reconstruct(dense, file, images)
    told = mmc.reconstruct(dense, file, [
        Batch(x, [sample for image in x.split(1)
                  for sample in detector_samples(dense, image)]) for x in images])
    found, wanted = slim.state_dict(), told.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in found)
    # Repaired: the channels that stay have other weights than before.
    name = graph.units[0].members[-1].layer
    kept = slim.get_submodule(name).weight
    part = dense.get_submodule(name).weight[tuple(map(slice, kept.shape))]
    assert kept.shape != dense.get_submodule(name).weight.shape
    assert not torch.allclose(kept, part)
