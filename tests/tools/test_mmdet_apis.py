"""mmdet's own init_detector and DetInferencer on compressed networks, a real image."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from command_lines import REPO
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint

from mmcompress.graph import trace
from mmcompress.layers.quantised import quantised_layers
from mmcompress.mutators import ChannelMutator
from mmcompress.openmmlab.cli import build_model
from mmcompress.openmmlab.images import build_dataset, load_batches, search_dataset
from mmcompress.openmmlab.policy_config import compress_config
from mmcompress.openmmlab.policy_model import write_weights
from mmcompress.policy import Policy
from mmcompress.policy.files import PolicyFile
from mmcompress.quant.calibration import calibrate

SHAPE = (3, 416, 416)
DENSE = """
_base_ = {base!r}
root = {data!r} + '/coco128/'
load_from = {data!r} + '/yolox_nano/yolox_nano_coco_mmdet.pth'
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(
    dataset=dict(data_root=root)))
test_dataloader = dict(
    batch_size=1, num_workers=0, persistent_workers=False,
    dataset=dict(data_root=root, ann_file={few!r}))
test_evaluator = dict(
    _delete_=True, type='DumpDetResults', out_file_path={out!r})
"""
COMPRESSED = """
_base_ = 'nano.py'
model = dict(
    _delete_=True, type='mmcompress.Compressed', architecture={{{{_base_.model}}}},
    policy={policy!r}, backbone=dict())
"""


@pytest.fixture(scope='module')
def folder(shared_data: Path, tmp_path_factory) -> Path:
    """The config of YOLOX-nano on one image, nano.py."""
    folder = tmp_path_factory.mktemp('apis')
    data = json.loads(
        (shared_data / 'coco128/annotations/instances_val128.json').read_text())
    data['images'] = data['images'][:1]
    data['annotations'] = [a for a in data['annotations']
                           if a['image_id'] == data['images'][0]['id']]
    (folder / 'few.json').write_text(json.dumps(data))
    (folder / 'nano.py').write_text(DENSE.format(
        base=str(REPO / 'configs/yolox/yolox_nano_coco128.py'), data=str(shared_data),
        few=str(folder / 'few.json'), out=str(folder / 'found.pkl')))
    return folder


@pytest.fixture(scope='module', params=['slim', 'quantised'])
def network(request, folder: Path) -> Path:
    """The policy file of a compressed YOLOX-nano, its weights beside it."""
    init_default_scope('mmdet')
    cfg = Config.fromfile(folder / 'nano.py')
    path = folder / f'{request.param}.json'
    meta = dict(dataset_meta=dict(classes=[f'class {i}' for i in range(80)]))
    model = build_model(cfg, cfg.load_from)
    graph = trace(model, SHAPE)
    if request.param == 'slim':
        mutator = ChannelMutator(divisor=1)
        mutator.prepare(model, graph)
        policy = Policy({u.name: u.width - 1 for u in graph.units if u.width > 30})
        PolicyFile(
            policy, graph.fingerprint, SHAPE, mutator.channels(policy)).save(path)
        write_weights(path.with_suffix('.pth'), mutator.materialise(policy), **meta)
        return path
    bits = {layer.name: (8, 8) for layer in graph.layers[1:]
            if 'head' not in layer.name}
    PolicyFile(Policy({}, bits), graph.fingerprint, SHAPE).save(path)
    compress_config(cfg, str(path))
    model = build_model(cfg)
    load_checkpoint(model, cfg.load_from, map_location='cpu')  # which has no scales
    images = load_batches(
        build_dataset(search_dataset(cfg)), range(4), model.data_preprocessor, 4)
    calibrate(model, quantised_layers(model), images, 'minmax')
    write_weights(path.with_suffix('.pth'), model, **meta)
    return path


@pytest.fixture(scope='module')
def tested(network: Path, folder: Path, tool) -> dict:
    """What tools/test.py finds on the image."""
    ended = tool('test', folder / 'nano.py', network.with_suffix('.pth'), '--policy',
                 network, '--work-dir', folder / network.stem, cwd=folder)
    assert ended.code == 0, ended
    found, = pickle.loads((folder / 'found.pkl').read_bytes())
    assert len(found['pred_instances']['scores']) > 3
    assert found['pred_instances']['scores'].max() > 0.3
    return found


@pytest.fixture
def config(network: Path, folder: Path) -> str:
    """The config that a user writes, see the README."""
    path = folder / f'my_{network.stem}.py'
    path.write_text(COMPRESSED.format(policy=str(network)))
    return str(path)


def check_same(found, tested: dict) -> None:
    for key in ('bboxes', 'scores', 'labels'):
        torch.testing.assert_close(found[key], tested['pred_instances'][key])


@pytest.mark.slow
def test_init_detector(network, tested, config):
    from mmdet.apis import inference_detector, init_detector

    model = init_detector(config, str(network.with_suffix('.pth')), device='cpu')
    assert type(model).__name__ == 'YOLOX'
    assert bool(quantised_layers(model)) == (network.stem == 'quantised')
    assert model.dataset_meta['classes'][3] == 'class 3'
    check_same(inference_detector(model, tested['img_path']).pred_instances, tested)


@pytest.mark.slow
def test_inferencer(network, tested, config):
    from mmdet.apis import DetInferencer

    inferencer = DetInferencer(
        model=config, weights=str(network.with_suffix('.pth')), device='cpu',
        show_progress=False)
    found, = inferencer(
        tested['img_path'], return_datasamples=True, no_save_vis=True)['predictions']
    check_same(found.pred_instances, tested)


@pytest.mark.slow
def test_a_config_that_the_tools_wrote(network, tested, folder):
    """tools/test.py leaves one in its work dir."""
    from mmdet.apis import inference_detector, init_detector

    model = init_detector(
        str(folder / network.stem / 'nano.py'), str(network.with_suffix('.pth')),
        device='cpu')
    check_same(inference_detector(model, tested['img_path']).pred_instances, tested)


@pytest.mark.slow
def test_options_reach_the_architecture(network, config):
    from mmdet.apis import init_detector

    model = init_detector(
        config, str(network.with_suffix('.pth')), device='cpu', cfg_options={
            'model.test_cfg.score_thr': 0.5, 'model.backbone.init_cfg': None})
    assert model.test_cfg.score_thr == 0.5
    assert model.test_cfg.nms.iou_threshold == 0.65


@pytest.mark.slow
def test_mmdets_own_building_and_testing(network, tested, config, folder, tmp_path):
    """As mmdet's tools/test.py does: the config, Runner.from_cfg, test."""
    from mmengine.runner import Runner

    cfg = Config.fromfile(config)
    cfg.work_dir, cfg.load_from = str(tmp_path), str(network.with_suffix('.pth'))
    cfg.test_evaluator.out_file_path = str(tmp_path / 'theirs.pkl')
    runner = Runner.from_cfg(cfg)
    assert bool(quantised_layers(runner.model)) == (network.stem == 'quantised')
    runner.test()
    found, = pickle.loads((tmp_path / 'theirs.pkl').read_bytes())
    check_same(found['pred_instances'], tested)


@pytest.mark.slow
def test_complexity_of_mmengine(network, config):
    """mmengine's counter sees the channels that are left, at whatever bits."""
    from mmdet.apis import init_detector
    from mmengine.analysis import FlopAnalyzer, get_model_complexity_info

    model = init_detector(config, str(network.with_suffix('.pth')), device='cpu')
    found = FlopAnalyzer(model, torch.zeros(1, *SHAPE)).by_operator()
    assert found['conv'] == sum(layer.macs for layer in trace(model, SHAPE).layers)
    whole = get_model_complexity_info(model, SHAPE, show_table=False, show_arch=False)
    assert whole['params'] == sum(p.numel() for p in model.parameters())
