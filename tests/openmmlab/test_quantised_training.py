"""Quantised policies: searched with widths, rebuilt, trained, resumed, under DDP."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, save_checkpoint

from mmcompress.costs import Costs, CostTable
from mmcompress.errors import CompressionError, PolicyError
from mmcompress.graph import trace
from mmcompress.layers.quantised import quantised_layers, uncalibrated
from mmcompress.openmmlab.cli import load_weights, search_runner
from mmcompress.openmmlab.export_images import calibration_images
from mmcompress.openmmlab.loops.search import PolicySearchLoop
from mmcompress.openmmlab.policy_config import compress_config
from mmcompress.openmmlab.policy_model import write_model
from mmcompress.policy import Policy, SearchSpace
from mmcompress.policy.files import PolicyFile
from mmcompress.testing.small_classifier import small_classifier

SEARCH = dict(
    searcher=dict(type='Evolution', evaluations=6),
    evaluator=dict(metric='accuracy/top1', images=40, calibration_images=10),
    targets=dict(bops=[0.04, 0.02]))
COMPRESSION = dict(
    input_shape=(3, 8, 8), channel=dict(divisor=1, min_ratio=0.5),
    quant=dict(bits=[4, 8]))


def make_config(work_dir, epochs=2) -> Config:
    init_default_scope('mmpretrain')
    dataset = dict(type='mmcompress.TwoClasses', images=60,
                   pipeline=[dict(type='PackInputs')])
    loader = dict(batch_size=10, num_workers=0, dataset=dataset,
                  sampler=dict(type='DefaultSampler', shuffle=True))
    return Config(dict(
        **small_classifier(),
        train_dataloader=loader, val_dataloader=loader, test_dataloader=loader,
        val_cfg=dict(), test_cfg=dict(),
        val_evaluator=dict(type='Accuracy', topk=(1,)),
        test_evaluator=dict(type='Accuracy', topk=(1,)),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=100)),
        env_cfg=dict(dist_cfg=dict(backend='gloo')),
        compression=COMPRESSION, randomness=dict(seed=0), work_dir=str(work_dir),
        default_scope='mmpretrain', log_level='ERROR',
        experiment_name='_'.join(work_dir.parts)))


@pytest.fixture(scope='module')
def searched(tmp_path_factory):
    cfg = make_config(tmp_path_factory.mktemp('qat') / 'search')
    cfg.search_cfg = SEARCH
    loop = PolicySearchLoop(search_runner(cfg), **SEARCH)
    loop.run()
    return loop


@pytest.fixture(scope='module')
def policy(tmp_path_factory):
    """A policy of all layers at 4 bits, and a dense checkpoint, apart from it."""
    folder = tmp_path_factory.mktemp('policy')
    cfg = make_config(folder / 'dense')
    runner = search_runner(Config(dict(cfg, search_cfg=SEARCH)))
    graph = trace(runner.model, (3, 8, 8))
    unit = graph.units[0]
    bits = {layer.name: (4, 4) for layer in graph.layers}
    PolicyFile(
        Policy({unit.name: 5}, bits), graph.fingerprint, graph.input_shape,
        {unit.name: np.array([0, 2, 3, 5, 7])}).save(folder / 'p.json')
    save_checkpoint(dict(state_dict=runner.model.state_dict()),
                    str(folder / 'dense.pth'))
    return folder


@pytest.fixture(scope='module')
def twin(policy, tmp_path_factory):
    """The same with the points of its exported file, and their checkpoint."""
    pytest.importorskip('onnxruntime')
    from mmcompress.exporter.export import ExportOptions, export_onnx
    from mmcompress.exporter.twin.twin import twin_of

    folder = tmp_path_factory.mktemp('twin')
    runner = runner_of(policy, folder / 'calibrated', epochs=1)
    runner.train()
    images = calibration_images(runner.cfg, runner.model, (3, 8, 8), 16)
    files = export_onnx(
        runner.model, folder / 'net.onnx',
        ExportOptions((3, 8, 8), images=images, layout=True))
    write_model(twin_of(runner.model, [file.layout for file in files]),
                policy / 'p.json', folder / 'p.json')
    (folder / 'p.pth').rename(folder / 'dense.pth')
    return folder


def runner_of(policy, work_dir, epochs=2, launcher='none', resume=False) -> Runner:
    cfg = make_config(work_dir, epochs)
    cfg.launcher, cfg.resume = launcher, resume
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel', device_ids=None)
    compress_config(cfg, str(policy / 'p.json'), str(policy / 'dense.pth'))
    if resume:  # as tools/train.py: from the newest checkpoint of the work dir
        cfg.load_from = None
    return Runner.from_cfg(cfg)


def test_joint_search_writes_what_can_be_rebuilt(searched):
    for target in searched.targets:
        path = searched.work_dir / 'policies' / f'{target.name}.json'
        file = PolicyFile.load(path)
        assert file.policy.bits and target.met_by(file.facts['costs'])
        cfg = make_config(searched.work_dir / target.name)
        compress_config(cfg, str(path))
        model = Runner.from_cfg(dict(
            cfg, train_dataloader=None, train_cfg=None, optim_wrapper=None)).model
        load_weights(model, cfg.load_from)
        # The rebuilt model scores exactly what was searched.
        measured = searched.evaluator.measure(model.eval())['accuracy/top1']
        assert measured == pytest.approx(file.facts['score'], abs=1e-4)
        assert uncalibrated(model) == []


def test_a_search_normalises_images_as_training_does(searched):
    # mmpretrain's configs say how at their top level, not in the model.
    assert (searched.model.data_preprocessor.std == 255).all()
    assert searched.evaluator.scoring[0].inputs.abs().max() <= 1


def test_costs_of_a_policy_file(policy):
    cfg = make_config(policy / 'costs')
    runner = search_runner(Config(dict(cfg, search_cfg=SEARCH)))
    graph = trace(runner.model, (3, 8, 8))
    space = SearchSpace.from_graph(graph)
    costs = Costs(CostTable.from_graph(graph), space)
    found = costs.of(PolicyFile.load(policy / 'p.json').policy)
    assert found['bops'] == found['macs'] * 16


def test_training_calibrates_a_float_checkpoint_first(policy, tmp_path):
    runner = runner_of(policy, tmp_path / 'a', epochs=1)
    model = runner.model
    assert len(uncalibrated(model)) == len(quantised_layers(model)) == 8
    with pytest.raises(CompressionError, match='Calibrate it'):
        model(torch.zeros(1, 3, 8, 8), mode='tensor')
    with pytest.raises(CompressionError, match=r'missing, e.g. \S+_quantizer.scale'):
        load_weights(model, str(policy / 'dense.pth'))
    found = {}
    step = model.train_step

    def first(*args, **kwargs):
        found.setdefault('scales', {
            k: v.clone() for k, v in model.state_dict().items() if 'quantizer' in k})
        return step(*args, **kwargs)
    model.train_step = first
    runner.train()
    trained = model.state_dict()
    assert found['scales'].keys() == {k for k in trained if 'quantizer' in k}
    assert all((v != 1).any() for k, v in found['scales'].items() if 'scale' in k)
    moved = [k for k, v in found['scales'].items() if not torch.equal(v, trained[k])]
    assert len([k for k in moved if 'weight_quantizer' in k]) == 8
    assert len([k for k in moved if 'input_quantizer.scale' in k]) >= 7
    groups = {g['weight_decay'] for g in runner.optim_wrapper.param_groups}
    assert groups == {0}


def test_scales_are_not_decayed(policy, tmp_path):
    cfg = make_config(tmp_path / 'b')
    cfg.optim_wrapper.optimizer.weight_decay = 0.1
    compress_config(cfg, str(policy / 'p.json'), str(policy / 'dense.pth'))
    runner = Runner.from_cfg(cfg)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    decay = {id(p): g['weight_decay'] for g in runner.optim_wrapper.param_groups
             for p in g['params']}
    for name, parameter in runner.model.named_parameters():
        assert decay[id(parameter)] == (0 if '_quantizer' in name else 0.1), name


def test_resumed_training_equals_an_uninterrupted_one(policy, tmp_path):
    whole = runner_of(policy, tmp_path / 'whole')
    whole.train()
    runner_of(policy, tmp_path / 'cut', epochs=1).train()
    resumed = runner_of(policy, tmp_path / 'cut', resume=True)
    resumed.train()
    state = whole.model.state_dict()
    for key, value in resumed.model.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_layers_that_read_one_tensor_share_a_quantiser(policy, tmp_path):
    # In a residual block only one conv reads a tensor; with bits a second reader is
    # made by hand.
    from mmcompress.mutators.rebuild import quantise

    class Fork(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (torch.nn.Conv2d(3, 2, 1) for _ in range(3))

        def forward(self, x):
            return self.a(x), self.b(x), self.c(x)

    model = Fork()
    quantise(model, Policy({}, {'a': (8, 8), 'b': (4, 8), 'c': (8, 4)}), (3, 8, 8))
    assert model.a.input_quantizer is model.b.input_quantizer
    assert model.a.input_quantizer is not model.c.input_quantizer
    assert {'a.input_quantizer.scale', 'b.input_quantizer.scale'} <= \
        model.state_dict().keys()
    with pytest.raises(PolicyError, match="gives bits to the layer 'd'"):
        quantise(model, Policy({}, {'d': (8, 8)}), (3, 8, 8))


def test_points_between_layers_are_rebuilt_and_learned(twin, tmp_path):
    assert PolicyFile.load(twin / 'p.json').points
    runner = runner_of(twin, tmp_path / 'a', epochs=1)
    load_weights(runner.model, str(twin / 'dense.pth'))
    before = {k: v.clone() for k, v in runner.model.state_dict().items()
              if k.startswith('file_points')}
    runner.train()
    after = runner.model.state_dict()
    assert before and all((after[k] != v).all() for k, v in before.items()
                          if k.endswith('scale'))
    other = runner_of(twin, tmp_path / 'b', epochs=1).model
    load_weights(other, str(tmp_path / 'a/epoch_1.pth'))
    image = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(*(model.eval()(image, mode='tensor')
                             for model in (runner.model, other)))


def test_points_without_their_checkpoint(twin, policy, tmp_path):
    model = runner_of(twin, tmp_path / 'a').model
    with pytest.raises(CompressionError, match=r'missing, e.g. \S+scale'):
        load_weights(model, str(policy / 'dense.pth'))


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['policy', 'twin'])
def test_two_processes_learn_the_same_scales(request, kind, tmp_path):
    policy = request.getfixturevalue(kind)
    done = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone',
         '--nproc_per_node', '2', __file__, str(policy), str(tmp_path / 'ddp')],
        env=dict(os.environ, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES=''),
        capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    states = [torch.load(tmp_path / f'ddp/rank{r}.pt') for r in (0, 1)]
    assert states[0].keys() == states[1].keys() and states[0]
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]) and value.isfinite().all()
    # What rank 0 wrote is a model with scales.
    model = runner_of(policy, tmp_path / 'after').model
    load_weights(model, str(tmp_path / 'ddp' / 'epoch_2.pth'))
    assert uncalibrated(model) == []


def train_one_rank(policy: str, work_dir: str) -> None:
    """What every process of the test above does."""
    work_dir = Path(work_dir)
    # mmengine's own start of a process group needs a GPU.
    torch.distributed.init_process_group('gloo')
    runner = runner_of(Path(policy), work_dir, launcher='pytorch')
    runner.train()
    state = runner.model.module.state_dict()
    torch.save({k: v for k, v in state.items()
                if 'quantizer' in k or 'file_points' in k},
               work_dir / f'rank{get_rank()}.pt')
    # A process that ends while threads of the group run may be aborted.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == '__main__':
    train_one_rank(*sys.argv[1:])
