"""Attentions with fewer heads: quantised, rebuilt, and exported."""

import onnx
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmcompress.data.images import Batch
from mmcompress.exporter.export import ExportOptions, export_onnx
from mmcompress.graph import trace, verify
from mmcompress.layers.multihead import PROJECTIONS
from mmcompress.mutators import Calibration, ChannelMutator, JointMutator, QuantMutator
from mmcompress.mutators.rebuild import rebuild
from mmcompress.openmmlab.backend import FileNetwork
from mmcompress.openmmlab.models.compressed import Compressed
from mmcompress.policy import Bits, Policy
from mmcompress.policy.files import PolicyFile

SHAPE = (3, 32, 32)
VIT = dict(
    type='VisionTransformer', img_size=32, patch_size=16, arch=dict(
        embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=32))
# Multiplies by the weight of its qkv without calling it.
SWIN = dict(
    type='SwinTransformerV2', img_size=32, window_size=[4, 4], out_indices=(1,),
    arch=dict(embed_dims=12, depths=[1, 1], num_heads=[3, 6],
              extra_norm_every_n_blocks=0))


class Images:
    """The part of an evaluator that mutators ask."""

    calibration = [Batch(torch.randn(
        8, *SHAPE, generator=torch.Generator().manual_seed(3)), [])]


def assert_file_says(network, path, images, wanted):
    """The file of a network in float gives the wanted outputs."""
    [file] = export_onnx(network, path, ExportOptions(SHAPE))
    torch.testing.assert_close(
        FileNetwork(file.path, 'onnxruntime')(images), wanted, rtol=1e-3, atol=1e-4)


def config(backbone):
    pytest.importorskip('mmpretrain.models')
    return dict(
        type='mmpretrain.ImageClassifier', backbone=backbone,
        data_preprocessor=dict(mean=[120.0] * 3, std=[60.0] * 3, num_classes=10),
        neck=dict(type='GlobalAveragePooling') if backbone is SWIN else None,
        head=dict(type='LinearClsHead', num_classes=10, in_channels=24,
                  loss=dict(type='CrossEntropyLoss')))


@pytest.mark.parametrize('backbone, qkv', [
    (VIT, 'backbone.layers.0.attn.qkv'),
    (SWIN, 'backbone.stages.0.blocks.0.attn.w_msa.qkv')], ids=['vit', 'swin_v2'])
def test_fewer_heads(backbone, qkv, tmp_path):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(config(backbone))
    model.eval()
    mutator = JointMutator(ChannelMutator(divisor=4), QuantMutator(bits=[8]))
    graph = verify(model, trace(model, SHAPE))
    mutator.prepare(model, graph, Calibration(Images.calibration))
    layers = [qkv, qkv.replace('qkv', 'proj')]
    policy = Policy({qkv: 1}, {name: Bits(8, 8) for name in layers})
    images = Images.calibration[0].inputs
    with torch.no_grad():
        with mutator.acting(Policy({qkv: 1})):
            fine = model(images)
        with mutator.acting(policy):
            acting = model(images)
        slim = mutator.materialise(policy)
        slim.eval()
        assert 0 < (acting - fine).abs().max() < 0.1 * fine.std()
        torch.testing.assert_close(slim(images), acting, rtol=1e-4, atol=1e-5)
    assert slim.get_submodule(qkv).weight.shape == (
        (24, 24) if backbone is VIT else (12, 12))

    PolicyFile(policy, graph.fingerprint, graph.input_shape,
               mutator.channels(policy)).save(tmp_path / 'policy.json')
    again = Compressed(config(backbone), tmp_path / 'policy.json')
    again.load_state_dict(slim.state_dict(), strict=False)
    again.eval()
    with torch.no_grad():
        torch.testing.assert_close(again(images), acting, rtol=1e-4, atol=1e-5)

    floating = mutator.materialise(Policy({qkv: 1}))
    floating.eval()
    assert_file_says(floating, tmp_path / 'net.onnx', images, fine)

    calibration = [x[None].numpy() for x in images]
    [file] = export_onnx(
        slim, tmp_path / 'int8.onnx', ExportOptions(SHAPE, images=calibration))
    constants = {x.name: x for x in onnx.load(file.path).graph.initializer}
    for name in layers:
        integers = constants[f'model.{name}.weight_transposed_integers']
        assert integers.data_type == onnx.TensorProto.INT8
        assert list(integers.dims) == list(slim.get_submodule(name).weight.T.shape)
    # No points but the model's: they differ by rounding next to a step of a quantiser.
    error = FileNetwork(file.path, 'onnxruntime')(images) - acting
    assert error.abs().max() < 0.02 * acting.std()


class Tokens(nn.Module):
    """An encoder layer of torch on 4 x 4 patches."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 24, 8, 8)
        self.encoder = nn.TransformerEncoderLayer(24, 3, 32, batch_first=True)
        self.head = nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of images."""
        return self.head(self.encoder(self.patches(x).flatten(2).mT).mean(1))


def test_fewer_heads_of_torch(tmp_path):
    model = Tokens().eval()
    images = Images.calibration[0].inputs
    mutator = JointMutator(ChannelMutator(divisor=4), QuantMutator(bits=[8]))
    graph = verify(model, trace(model, SHAPE))
    mutator.prepare(model, graph, Calibration(Images.calibration))
    attention = 'encoder.self_attn'
    layers = [f'{attention}.{name}' for name in (*PROJECTIONS, 'out_proj')]
    # Of 3 heads of 8 one stays, and of 24 channels 20.
    policy = Policy({layers[0]: 1, 'patches': 20}, {n: Bits(8, 8) for n in layers})
    with torch.no_grad():
        with mutator.acting(Policy(policy.widths)):
            fine = model(images)
        with mutator.acting(policy):
            acting = model(images)
        slim = mutator.materialise(policy).eval()
        assert 0 < (acting - fine).abs().max() < 0.1 * fine.std()
        torch.testing.assert_close(slim(images), acting, rtol=1e-4, atol=1e-5)

    PolicyFile(policy, graph.fingerprint, graph.input_shape,
               mutator.channels(policy)).save(tmp_path / 'policy.json')
    again = rebuild(Tokens(), PolicyFile.load(tmp_path / 'policy.json')).eval()
    again.load_state_dict(slim.state_dict())
    # q, k and v read the same tensor.
    assert len({again.get_submodule(n).input_quantizer for n in layers[:3]}) == 1
    assert again.state_dict()[f'{attention}.in_proj_weight'].shape == (24, 20)
    with torch.no_grad():
        torch.testing.assert_close(again(images), acting, rtol=1e-4, atol=1e-5)

    floating = mutator.materialise(Policy(policy.widths)).eval()
    assert_file_says(floating, tmp_path / 'net.onnx', images, fine)

    calibration = [x[None].numpy() for x in images]
    [file] = export_onnx(
        slim, tmp_path / 'int8.onnx', ExportOptions(SHAPE, images=calibration))
    integers = [x for x in onnx.load(file.path).graph.initializer
                if x.data_type == onnx.TensorProto.INT8 and len(x.dims) == 2]
    assert sorted(tuple(x.dims) for x in integers) == [(8, 20)] + 3 * [(20, 8)]
    error = FileNetwork(file.path, 'onnxruntime')(images) - acting
    assert error.abs().max() < 0.02 * acting.std()
