"""mmpretrain's own inferencers on compressed networks, with real weights and images."""

from pathlib import Path

import pytest
import torch
from command_lines import REPO
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmcompress.graph import trace
from mmcompress.layers.quantised import quantised_layers
from mmcompress.mutators import ChannelMutator
from mmcompress.openmmlab.cli import build_model
from mmcompress.openmmlab.images import build_dataset, load_batches, search_dataset
from mmcompress.openmmlab.models import convert_akamaster
from mmcompress.openmmlab.policy_config import compress_config
from mmcompress.openmmlab.policy_model import write_weights
from mmcompress.policy import Policy
from mmcompress.policy.files import PolicyFile
from mmcompress.quant.calibration import calibrate

SHAPE = (3, 32, 32)
DENSE = """
_base_ = {base!r}
load_from = {weights!r}
data = dict(data_root={data!r})
train_dataloader = dict(dataset=data)
test_dataloader = dict(dataset=data)
val_dataloader = dict(dataset=data)
"""
COMPRESSED = """
_base_ = 'dense.py'
model = dict(_delete_=True, type='mmcompress.Compressed', policy={policy!r},
             architecture={{{{_base_.model}}}}, backbone=dict(), head=dict())
load_from = {weights!r}
"""


@pytest.fixture(scope='module')
def dense(shared_data: Path, tmp_path_factory) -> Config:
    """ResNet-20 with its real weights."""
    folder = tmp_path_factory.mktemp('apis')
    state = torch.load(
        shared_data / 'cifar_resnet/resnet20_cifar10.pth', weights_only=True)
    torch.save({'state_dict': convert_akamaster(state)}, folder / 'dense.pth')
    (folder / 'dense.py').write_text(DENSE.format(
        base=str(REPO / 'configs/cifar/resnet20_cifar10.py'),
        weights=str(folder / 'dense.pth'),
        data=str(shared_data / 'cifar10/lossless6102')))
    return Config.fromfile(folder / 'dense.py')


@pytest.fixture(scope='module', params=['slim', 'quantised'])
def network(request, dense: Config) -> Path:
    """The config of a compressed network, as a user writes it."""
    init_default_scope('mmpretrain')
    folder = Path(dense.filename).parent
    path = folder / f'{request.param}.json'
    model = build_model(dense, dense.load_from)
    graph = trace(model, SHAPE)
    if request.param == 'slim':
        mutator = ChannelMutator(divisor=1)
        mutator.prepare(model, graph)
        policy = Policy({u.name: u.width - 1 for u in graph.units})
        PolicyFile(
            policy, graph.fingerprint, SHAPE, mutator.channels(policy)).save(path)
        write_weights(path.with_suffix('.pth'), mutator.materialise(policy))
    else:
        bits = {layer.name: (8, 8) for layer in graph.layers}
        PolicyFile(Policy({}, bits), graph.fingerprint, SHAPE).save(path)
        cfg = Config(dense._cfg_dict.to_dict())
        compress_config(cfg, str(path))
        model = build_model(cfg)
        model.load_state_dict(torch.load(
            dense.load_from, weights_only=True)['state_dict'], strict=False)
        images = load_batches(build_dataset(search_dataset(dense)), range(64),
                              model.data_preprocessor, 64)
        calibrate(model, quantised_layers(model), images, 'minmax')
        write_weights(path.with_suffix('.pth'), model)
    config = folder / f'my_{request.param}.py'
    config.write_text(COMPRESSED.format(
        policy=str(path), weights=str(path.with_suffix('.pth'))))
    return config


@pytest.fixture(scope='module')
def images(dense: Config) -> tuple[list, list[int]]:
    """Test images as arrays, and their labels."""
    init_default_scope('mmpretrain')
    dataset = build_dataset(dense.test_dataloader.dataset)
    infos = [dataset.get_data_info(i) for i in range(64)]
    return [i['img'] for i in infos], [i['gt_label'] for i in infos]


def expected(network: Path, images: list) -> torch.Tensor:
    """Scores of the network that mmcompress itself builds: ``(N, 10)``."""
    init_default_scope('mmpretrain')
    cfg = Config.fromfile(network)
    model = build_model(cfg, cfg.load_from)
    data = model.data_preprocessor(dict(inputs=[
        torch.as_tensor(x).permute(2, 0, 1) for x in images]), False)
    with torch.no_grad():
        return model(data['inputs']).softmax(1)


def test_classification_inferencer(network, images):
    from mmpretrain import ImageClassificationInferencer

    inferencer = ImageClassificationInferencer(str(network), device='cpu')
    found = inferencer(images[0], batch_size=16)
    scores = torch.tensor([f['pred_scores'].tolist() for f in found])
    torch.testing.assert_close(
        scores, expected(network, images[0]), atol=2e-4, rtol=1e-3)
    assert found[0]['pred_class'] in inferencer.classes
    right = sum(f['pred_label'] == label for f, label in zip(found, images[1]))
    assert right > 0.7 * len(found), 'real weights, 91.6 % dense'


def test_get_model(network, images):
    from mmpretrain import ImageClassificationInferencer, get_model

    model = get_model(str(network), pretrained=True, device='cpu')
    assert bool(quantised_layers(model)) == ('quantised' in network.stem)
    found, = ImageClassificationInferencer(model)(images[0][0])
    assert found['pred_label'] == int(expected(network, images[0][:1]).argmax())


def test_feature_extractor(network, images):
    from mmpretrain import FeatureExtractor

    features = FeatureExtractor(str(network), device='cpu')(images[0][:2])
    cfg = Config.fromfile(network)
    model = build_model(cfg, cfg.load_from)
    width = model.head.fc.in_features
    assert len(features) == 2 and features[0][-1].shape == (width,)
    assert (width < 64) == ('slim' in network.stem)


def test_options_of_mmpretrain(network):
    from mmpretrain import get_model

    model = get_model(str(network), head=dict(topk=(1, 5)))
    assert model.head.topk == (1, 5)


def test_test_of_mmpretrain(network, tmp_path):
    """Runner.from_cfg, as mmpretrain's tools/test.py does."""
    from mmengine.runner import Runner

    cfg = Config.fromfile(network)
    cfg.work_dir = str(tmp_path)
    cfg.test_dataloader.dataset.indices = 100
    top1 = Runner.from_cfg(cfg).test()['accuracy/top1']
    assert top1 > 70


def test_complexity_of_mmengine(network, dense):
    """mmengine's counter sees the channels that are left, at whatever bits."""
    from mmengine.analysis import FlopAnalyzer, get_model_complexity_info
    from mmpretrain import get_model

    model = get_model(str(network), pretrained=True, device='cpu')
    found = FlopAnalyzer(model, torch.zeros(1, *SHAPE)).by_operator()
    cfg = Config.fromfile(network)
    graph = trace(build_model(cfg, cfg.load_from), SHAPE)
    assert found['conv'] + found['linear'] == sum(x.macs for x in graph.layers)
    # mmpretrain's and mmdet's get_flops.py count before weights are loaded.
    bare = FlopAnalyzer(get_model(str(network)), torch.zeros(1, *SHAPE))
    assert bare.by_operator()['conv'] == found['conv']
    whole = get_model_complexity_info(model, SHAPE, show_table=False, show_arch=False)
    assert whole['params'] == sum(p.numel() for p in model.parameters())
    assert whole['flops'] >= found['conv'] + found['linear']
