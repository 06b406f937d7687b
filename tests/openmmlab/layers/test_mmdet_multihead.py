"""Heads of a small DETR: attention to itself and to the image, from a config."""

import copy

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
HEADS = ('encoder.layers.0.self_attn', 'decoder.layers.0.self_attn',
         'decoder.layers.0.cross_attn')


def small_detr() -> ConfigDict:
    """One layer each, of 24 channels in 3 heads, and 5 boxes of 4 classes."""
    model = get_config('mmdet::detr/detr_r50_8xb2-150e_coco.py').model
    model.backbone.init_cfg = None  # no download
    model.backbone.update(depth=18, style='pytorch', base_channels=8)
    model.neck.update(in_channels=[64], out_channels=24)
    for part in (model.encoder, model.decoder):
        part.num_layers = 1
        part.layer_cfg.ffn_cfg.update(embed_dims=24, feedforward_channels=32)
        for name in ('self_attn_cfg', 'cross_attn_cfg'):
            if name in part.layer_cfg:
                part.layer_cfg[name].update(embed_dims=24, num_heads=3)
    model.num_queries = 5
    model.positional_encoding.num_feats = 12
    model.bbox_head.update(num_classes=4, embed_dims=24)
    return model


def build(config: ConfigDict) -> torch.nn.Module:
    init_default_scope('mmdet')
    torch.manual_seed(0)
    return MMENGINE_MODELS.build(copy.deepcopy(config)).eval()


def test_a_detector_with_attention(tmp_path):
    config = small_detr()
    model = build(config)
    before, keys = fingerprint(model), list(model.state_dict())
    mutator = ChannelMutator(divisor=1)
    report = check_network(model, SHAPE, mutator=mutator)
    graph = mutator.graph
    widths = {u.name: u.width for u in graph.units}
    assert all(widths[f'{name}.attn.q_proj'] == 3 for name in HEADS)
    assert not report.left_out and report.governed > 0.99
    assert (report.macs, report.params) == (report.true_macs, report.true_params)
    assert report.permuted < 1e-5 and max(report.zeroed, report.materialised) < 1e-4
    assert rebuild_error(copy.deepcopy(config), mutator) < 1e-4
    assert graph.fingerprint == fingerprint(model) == before
    assert list(model.state_dict()) == keys

    # mmengine walks state dicts by itself.
    policy = Policy({f'{name}.attn.q_proj': 2 for name in HEADS})
    path = tmp_path / 'policy.json'
    PolicyFile(policy, before, SHAPE).save(path)
    slim = MODELS.build(dict(
        type='mmcompress.Compressed', architecture=config, policy=str(path)))
    dense = get_state_dict(build(config))
    load_state_dict(slim, dense, strict=True)
    assert list(get_state_dict(slim)) == keys
    wanted = materialise(build(config), graph, policy)
    assert all(map(torch.equal, slim.parameters(), wanted.parameters()))
