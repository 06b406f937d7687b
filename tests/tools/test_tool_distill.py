"""The README's recipe on a one-stage detector: fine-tune a policy with a teacher."""

from pathlib import Path

import pytest
import torch
from command_lines import REPO
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmcompress.graph import trace
from mmcompress.mutators import ChannelMutator
from mmcompress.openmmlab.cli import build_model
from mmcompress.openmmlab.datasets import DigitsOptions, make_digits
from mmcompress.openmmlab.policy_model import write_weights
from mmcompress.policy import Policy
from mmcompress.policy.files import PolicyFile

CONFIG = """
_base_ = {base!r}
load_from = {load_from!r}
dataset = dict(data_root={data!r})
train_dataloader = dict(batch_size=2, dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)
val_evaluator = dict(ann_file={data!r} + '/annotations/val.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1, val_interval=1)
default_hooks = dict(logger=dict(interval=1))
"""


@pytest.fixture(scope='module')
def config(tmp_path_factory) -> Path:
    """The demo's YOLOX with random weights, and four digit scenes to learn from."""
    folder = tmp_path_factory.mktemp('distill')
    make_digits(folder / 'digits', DigitsOptions(
        images=dict(train=4, calibration=1, val=2)))
    path, checkpoint = folder / 'tiny.py', folder / 'dense.pth'
    path.write_text(CONFIG.format(
        base=str(REPO / 'configs/demo/digits_search.py'), load_from=str(checkpoint),
        data=str(folder / 'digits')))
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = build_model(Config.fromfile(path))
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    return path


@pytest.fixture(scope='module')
def policy(config: Path) -> Path:
    """Half of every unit."""
    cfg, path = Config.fromfile(config), config.with_name('half.json')
    init_default_scope('mmdet')
    model = build_model(cfg, cfg.load_from)
    graph = trace(model, (3, 128, 128))
    mutator = ChannelMutator(divisor=1)
    mutator.prepare(model, graph)
    half = Policy({u.name: u.width // 2 for u in graph.units})
    PolicyFile(half, graph.fingerprint, graph.input_shape, mutator.channels(half)).save(
        path)
    write_weights(path.with_suffix('.pth'), mutator.materialise(half))
    return path


@pytest.fixture(scope='module')
def work_dir(tool, config: Path, policy: Path) -> Path:
    """Where two iterations have ended."""
    ended = tool('train', config, '--policy', policy, '--distill', cwd=config.parent)
    assert ended.code == 0, ended
    return config.parent / 'work_dirs/tiny/finetune_half'


def test_two_iterations(work_dir: Path, policy: Path) -> None:
    log = ''.join(p.read_text() for p in work_dir.glob('*/*.log'))
    terms = [float(line.split('loss_distill: ')[1].split()[0])
             for line in log.splitlines() if 'loss_distill: ' in line]
    assert len(terms) == 2 and all(0 < term < 1e6 for term in terms)
    saved = torch.load(work_dir / 'epoch_1.pth', weights_only=False)['state_dict']
    slim = torch.load(policy.with_suffix('.pth'), weights_only=True)['state_dict']
    # The teacher is no part of the checkpoint.
    assert {k: v.shape for k, v in saved.items()} == {
        k: v.shape for k, v in slim.items()}
    assert all(v.isfinite().all() for v in saved.values())
    weight = 'backbone.stem.conv.conv.weight'
    assert not torch.equal(saved[weight], slim[weight])


def test_mmdet_loads_what_training_wrote(work_dir: Path) -> None:
    """The config in the work dir, of a model that learned from a teacher."""
    from mmdet.apis import init_detector

    model = init_detector(
        str(work_dir / 'tiny.py'), str(work_dir / 'epoch_1.pth'), device='cpu')
    saved = torch.load(work_dir / 'epoch_1.pth', weights_only=False)['state_dict']
    assert all(torch.equal(v, saved[k]) for k, v in model.state_dict().items())
    assert model.dataset_meta['classes'] == tuple('0123456789')
