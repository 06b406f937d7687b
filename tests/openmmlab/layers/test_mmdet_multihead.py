"""Heads of small DETRs: attention to itself and to the image, from a config."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.hub import get_config
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import get_state_dict, load_state_dict

from mmcompress.graph.trace import fingerprint
from mmcompress.mutators import ChannelMutator
from mmcompress.policy import Policy
from mmcompress.policy.files import PolicyFile
from mmcompress.registry import MODELS
from mmcompress.surgery.materialise import materialise
from mmcompress.testing.networks import check_network
from tools.zoo.check import rebuild_error

SHAPE = (3, 64, 64)
DETR = 'detr/detr_r50_8xb2-150e_coco.py'
CONDITIONAL = 'conditional_detr/conditional-detr_r50_8xb2-50e_coco.py'


def small_detr(config: str, layers: int, channels: int) -> ConfigDict:
    """Decoder layers of so many channels in 4 heads; 5 boxes of 4 classes."""
    model = get_config(f'mmdet::{config}').model
    model.backbone.init_cfg = None  # no download
    model.backbone.update(depth=18, style='pytorch', base_channels=8)
    model.neck.update(in_channels=[64], out_channels=channels)
    model.encoder.num_layers, model.decoder.num_layers = 1, layers
    for part in (model.encoder, model.decoder):
        part.layer_cfg.ffn_cfg.update(embed_dims=channels, feedforward_channels=32)
        for name in ('self_attn_cfg', 'cross_attn_cfg'):
            if name in part.layer_cfg:
                part.layer_cfg[name].update(embed_dims=channels, num_heads=4)
    model.num_queries = 5
    model.positional_encoding.num_feats = channels // 2
    model.bbox_head.update(num_classes=4, embed_dims=channels)
    return model


def build(config: ConfigDict) -> torch.nn.Module:
    init_default_scope('mmdet')
    torch.manual_seed(0)
    return MMENGINE_MODELS.build(copy.deepcopy(config)).eval()


@pytest.mark.parametrize('name, layers, channels, decoder', [
    (DETR, 1, 24, 'attn.q_proj'),
    # The second layer of its decoder has no projection of positions, of which there
    # are always 256.
    (CONDITIONAL, 2, 256, 'qcontent_proj')], ids=['detr', 'conditional'])
def test_a_detector_with_attention(name, layers, channels, decoder, tmp_path):
    config = small_detr(name, layers, channels)
    heads = ['encoder.layers.0.self_attn.attn.q_proj', *(
        f'decoder.layers.{i}.{side}_attn.{decoder}'
        for i in range(layers) for side in ('self', 'cross'))]
    model = build(config)
    before, keys = fingerprint(model), list(model.state_dict())
    mutator = ChannelMutator(divisor=1)
    report = check_network(model, SHAPE, mutator=mutator)
    graph = mutator.graph
    widths = {u.name: u.width for u in graph.units}
    assert all(widths[name] == 4 for name in heads)
    assert not report.left_out and report.governed > 0.99
    assert (report.macs, report.params) == (report.true_macs, report.true_params)
    assert report.permuted < 1e-5 and max(report.zeroed, report.materialised) < 1e-4
    assert rebuild_error(copy.deepcopy(config), mutator) < 1e-4
    assert graph.fingerprint == fingerprint(model) == before
    assert list(model.state_dict()) == keys

    # mmengine walks state dicts by itself.
    policy = Policy(dict.fromkeys(heads, 3))
    path = tmp_path / 'policy.json'
    PolicyFile(policy, before, SHAPE).save(path)
    slim = MODELS.build(dict(
        type='mmcompress.Compressed', architecture=config, policy=str(path)))
    dense = get_state_dict(build(config))
    load_state_dict(slim, dense, strict=True)
    assert list(get_state_dict(slim)) == keys
    wanted = materialise(build(config), graph, policy)
    assert all(map(torch.equal, slim.parameters(), wanted.parameters()))
