"""Checkpoints are read, and nothing in them runs."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from malicious import Call, poisoned
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.runner import (
    CheckpointLoader,
    Runner,
    get_mmcls_models,
    get_torchvision_models,
    load_checkpoint,
)
from torch import nn
from torch.utils.data import Dataset

from mmcompress.errors import CheckpointError
from mmcompress.openmmlab import checkpoints
from mmcompress.openmmlab.checkpoints import load, loading

FORCE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'


def saved(content: object, path: Path) -> str:
    """Write a file as mmengine does."""
    torch.save(content, path)
    return str(path)


# -- nothing runs ------------------------------------------------------------
def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'bad.pth'
    mark = poisoned(dict(state_dict={}), path)
    with pytest.raises(CheckpointError) as caught:
        load(str(path))
    assert not mark.exists()
    assert 'bad.pth' in str(caught.value) and 'os.makedirs' in str(caught.value)
    assert 'add --trust-checkpoint' in str(caught.value)


@pytest.mark.parametrize('function, arguments, named', [
    (exec, ('1/0',), 'builtins.exec'),
    (os.system, ('false',), r'posix\.system'),
    (getattr, (OneCycleParamScheduler, '__init__'), 'builtins.getattr'),
    (getattr, (HistoryBuffer, '_annealing_cos'), 'builtins.getattr'),
    (OneCycleParamScheduler, (), 'damaged|unrecognized'),
    (np.dtype, ('O',), 'no array of plain values'),
    (np.dtype, ([('a', 'O')],), 'no data type'),
    (np.ndarray, ((2,), 'O'), 'unknown way'),
    (np.load, ('x',), 'numpy.load'),
])
def test_the_sentence_names_what_is_wrong(
    function, arguments: tuple, named: str, tmp_path: Path
) -> None:
    path = saved(dict(a=Call(function, arguments)), tmp_path / 'bad.pth')
    with pytest.raises(CheckpointError, match=named):
        load(path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'bad.pth'
    path.write_bytes(b'nonsense')
    with pytest.raises(CheckpointError, match='is damaged, or holds more than'):
        load(str(path))


class Reducing:
    """Is pickled as given.

    Args:
        reduced (tuple): What ``__reduce__`` returns.
    """

    def __init__(self, *reduced: object) -> None:
        self.reduced = reduced

    def __reduce__(self) -> tuple:
        return self.reduced


def test_flags_cannot_turn_numbers_into_pointers(tmp_path: Path) -> None:
    """NumPy believes a pickle that says that the items of float64 are objects."""
    flags = (3, '<', None, None, None, -1, -1, 63)
    dtype = Reducing(np.dtype, ('f8', False, True), flags)
    real = pickle.loads(pickle.dumps(dtype))
    assert real.hasobject
    state = (1, (2,), dtype, False, np.array([1., 2.]).tobytes())
    reconstruct, arguments, _ = np.zeros(1).__reduce__()
    path = saved(dict(a=Reducing(reconstruct, arguments, state)), tmp_path / 'a.pth')
    array = load(path)['a']
    assert not array.dtype.hasobject and array.tolist() == [1, 2]


def test_a_history_cannot_replace_functions(tmp_path: Path) -> None:
    honest = HistoryBuffer([1.0, 3.0], [1, 1])
    methods = dict(HistoryBuffer._statistics_methods)
    state = vars(honest) | dict(
        statistics_methods=dict(mean=OneCycleParamScheduler._annealing_cos))
    bad = Reducing(HistoryBuffer, (), state)
    found = load(saved(dict(a=bad), tmp_path / 'a.pth'))['a']
    assert type(found) is HistoryBuffer and found.statistics('mean') == 2
    assert HistoryBuffer._statistics_methods == methods


def test_trust_lets_it_run(tmp_path: Path) -> None:
    path = tmp_path / 'mine.pth'
    mark = poisoned(dict(state_dict={}), path)
    load(str(path), trust=True)
    assert mark.is_dir()
    mark.rmdir()
    with loading(trust=True):
        load(str(path))
        assert mark.is_dir()
        mark.rmdir()
        with loading(trust=False), pytest.raises(CheckpointError):
            load(str(path))
        load(str(path))
    assert mark.is_dir()


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch) -> Path:
    """Where torch keeps what it has downloaded."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path))
    (tmp_path / 'open_mmlab.json').write_text(json.dumps({
        'here': 'hub/checkpoints/bad.pth', 'there': 'https://nowhere.invalid/bad.pth'}))
    return tmp_path / 'hub/checkpoints'


@pytest.mark.parametrize('address', [
    '{folder}/bad.pth', 'http://nowhere.invalid/bad.pth',
    'https://nowhere.invalid/bad.pth', 'open-mmlab://here', 'openmmlab://there',
    'torchvision://resnet18', 'modelzoo://resnet18', 'mmcls://mobilenet_v2'])
@pytest.mark.parametrize('zipped', [True, False])
def test_every_scheme(address: str, zipped: bool, downloads: Path) -> None:
    """What was downloaded before is read from the disk, without a network."""
    downloads.mkdir(parents=True)
    mark = downloads / 'mark'
    content = dict(state_dict={}, meta=Call(os.makedirs, (str(mark),)))
    for url in ('bad.pth', get_torchvision_models()['resnet18'],
                get_mmcls_models()['mobilenet_v2']):
        torch.save(content, downloads / Path(url).name,
                   _use_new_zipfile_serialization=zipped)
    address = address.format(folder=downloads)
    with pytest.raises(CheckpointError, match=r'os\.makedirs'):
        load(address)
    with loading(), pytest.raises(CheckpointError):
        load_checkpoint(nn.Identity(), address)
    assert not mark.exists()


@pytest.mark.parametrize('options', [
    {}, dict(weights_only=False), dict(pickle_module=pickle)])
def test_every_other_call_of_torch(options: dict, tmp_path: Path) -> None:
    mark = poisoned({}, tmp_path / 'bad.pth')
    with loading(), pytest.raises(CheckpointError):
        torch.load(tmp_path / 'bad.pth', **options)
    if 'pickle_module' not in options:
        with loading(), pytest.raises(pickle.UnpicklingError):
            torch.serialization.load(tmp_path / 'bad.pth', **options)
    assert not mark.exists()


def test_children_are_safe_too(tmp_path: Path) -> None:
    mark = poisoned({}, tmp_path / 'bad.pth')
    text = "import torch; torch.load('bad.pth', weights_only=False)"
    with loading():
        done = subprocess.run(
            [sys.executable, '-c', text], cwd=tmp_path, capture_output=True)
    assert done.returncode and b'UnpicklingError' in done.stderr
    assert not mark.exists()


def test_resuming_runs_no_text_of_a_config(tmp_path: Path) -> None:
    """mmengine runs ``meta['config']`` as a Python file when it resumes."""
    mark = tmp_path / 'mark'
    runner = training(tmp_path / 'a')
    runner.train()
    path = tmp_path / 'a/epoch_1.pth'
    content = torch.load(path, weights_only=False)
    content['meta']['config'] = f'import os\nos.mkdir({str(mark)!r})\n'
    torch.save(content, path)
    with loading():
        training(tmp_path / 'b', resume=str(path)).train()
    assert not mark.exists()
    assert 'config' not in load(str(path))['meta']


# -- nothing else changes ----------------------------------------------------
def test_importing_changes_nothing() -> None:
    text = (
        'import os, torch, mmengine.runner as r\n'
        'from torch.serialization import get_safe_globals as listed\n'
        'before = torch.load, dict(r.CheckpointLoader._schemes), set(listed()), '
        'dict(os.environ)\n'
        'import mmcompress.openmmlab.checkpoints, mmcompress.openmmlab.cli\n'
        'import mmcompress.openmmlab.test_set, mmcompress.openmmlab.models.distilled\n'
        'assert before == (torch.load, r.CheckpointLoader._schemes, set(listed()), '
        'os.environ)\n')
    subprocess.run([sys.executable, '-W', 'ignore', '-c', text], check=True)


@pytest.mark.parametrize('trust', [True, False])
def test_all_is_as_before(trust: bool, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    monkeypatch.delenv(FORCE, raising=False)
    path = saved(dict(a=HistoryBuffer([1.0], [1])), tmp_path / 'a.pth')

    def state() -> tuple:
        return (torch.load, dict(CheckpointLoader._schemes), dict(os.environ),
                set(torch.serialization.get_safe_globals()))

    before = state()
    with torch.serialization.safe_globals([callable]):
        with pytest.raises(ZeroDivisionError), loading(trust):
            assert load(path)['a'].current() == 1
            raise ZeroDivisionError
        assert callable in torch.serialization.get_safe_globals()
    assert state() == before


# -- honest checkpoints load -------------------------------------------------
class Numbers(Dataset):
    """Eight vectors, and metainfo as OpenMMLab's datasets have it."""

    metainfo = dict(
        classes=('a', 'b'), palette=[(1, 2, 3)], sigmas=np.array([0.1, 0.2]),
        nested=ConfigDict(a=dict(b=[1]), c=np.float32(0.5)), name=np.str_('numbers'),
        kept=np.array([True, False]), words=np.array(['x', 'yz']),
        flipped=np.arange(3, dtype='>i2'), grid=np.asfortranarray(np.eye(2)))

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.full((4,), float(index))


class Tiny(BaseModel):
    """A linear layer and a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))

    def forward(self, *inputs: torch.Tensor, mode: str = 'tensor') -> dict:
        return dict(loss=self.layers(torch.stack(inputs)).square().mean())


def training(
    folder: Path, epochs: int = 1, resume: str | None = None, **optimizer: object
) -> Runner:
    """A training with whatever leaves something in a checkpoint."""
    torch.manual_seed(0)
    optimizer = optimizer or dict(type='AdamW', lr=0.1)
    steps = dict(by_epoch=False)
    return Runner(
        Tiny(), str(folder), train_dataloader=dict(
            dataset=Numbers(), batch_size=2, collate_fn=dict(type='pseudo_collate'),
            sampler=dict(type='DefaultSampler', shuffle=True)),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(type='OptimWrapper', optimizer=optimizer),
        param_scheduler=[
            dict(type='OneCycleLR', eta_max=0.1, total_steps=100, **steps),
            dict(type='LinearLR', start_factor=0.1, end=50, **steps),
            dict(type='MultiStepLR', milestones=[2, 5]),
            dict(type='CosineAnnealingMomentum', T_max=9, **steps)],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        custom_hooks=[dict(type='EMAHook')], randomness=dict(seed=0),
        load_from=resume, resume=resume is not None, log_level='WARNING',
        experiment_name=folder.name + str(epochs) + '_'.join(map(str, optimizer)))


def same(a: object, b: object) -> bool:
    """Whether two contents of checkpoints are equal."""
    if isinstance(a, HistoryBuffer):
        a, b = vars(a), vars(b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and \
            a.shape == b.shape and a.flags.f_contiguous == b.flags.f_contiguous and \
            bool((a == b).all())
    return type(a) is type(b) and a == b


@pytest.mark.parametrize('optimizer', [
    dict(type='SGD', lr=0.1, momentum=0.9), dict(type='AdamW', lr=0.1)])
def test_a_training_resumes(optimizer: dict, tmp_path: Path) -> None:
    training(tmp_path / 'whole', 2, **optimizer).train()
    path = str(tmp_path / 'whole/epoch_1.pth')
    known = torch.load(path, weights_only=False)
    assert {'message_hub', 'optimizer', 'param_schedulers', 'ema_state_dict'} \
        <= known.keys()
    assert same(known, load(path))
    with loading():
        training(tmp_path / 'rest', 2, path, **optimizer).train()
    first, second = (load(str(tmp_path / name / 'epoch_2.pth'))
                     for name in ('whole', 'rest'))
    for name in ('optimizer', 'param_schedulers', 'state_dict', 'ema_state_dict'):
        assert same(first[name], second[name]), name
    # What it wrote is as mmengine writes it; this package is not needed to read it.
    names = globals_in(tmp_path / 'rest/epoch_2.pth')
    assert names == globals_in(tmp_path / 'whole/epoch_2.pth')
    assert not any('mmcompress' in name for name in names)
    assert second['meta']['epoch'] == 2


def globals_in(path: Path) -> set[str]:
    """Names in a checkpoint that torch does not allow by itself."""
    return set(torch.serialization.get_unsafe_globals_in_checkpoint(path))


def test_old_numpy_wrote_other_names(tmp_path: Path) -> None:
    new, old = tmp_path / 'new.pth', tmp_path / 'old.pth'
    content = dict(a=np.arange(3.0), b=np.float64(2))
    torch.save(content, new)
    with zipfile.ZipFile(new) as source, zipfile.ZipFile(old, 'w') as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith('data.pkl'):
                data = data.replace(b'numpy._core', b'numpy.core')
            target.writestr(name, data)
    assert 'numpy.core.multiarray.scalar' in globals_in(old)
    assert same(content, load(str(old)))


def test_arrays_behave_like_plain_ones(tmp_path: Path) -> None:
    array = load(saved(dict(a=np.arange(3)), tmp_path / 'a.pth'))['a']
    assert torch.from_numpy(array).tolist() == [0, 1, 2]
    assert type(copy.deepcopy(array)) is np.ndarray
    assert type(pickle.loads(pickle.dumps(array))) is np.ndarray
    assert pickle.dumps(array) == pickle.dumps(np.arange(3))


def test_tensors_still_travel_between_processes() -> None:
    with loading():
        assert pickle.loads(pickle.dumps(torch.ones(2))).tolist() == [1, 1]


def test_a_project_may_allow_its_own(tmp_path: Path, monkeypatch) -> None:
    path = saved(dict(a=Reducing(dict, ([(1, 2)],))), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=r'builtins\.dict'):
        load(path)
    monkeypatch.setitem(checkpoints.ALLOWED, 'builtins.dict', dict)
    assert load(path)['a'] == {1: 2}


@pytest.mark.parametrize('file', [
    'yolox_nano/yolox_nano_coco_mmdet.pth', 'cifar_resnet/resnet20_cifar10.pth',
    'cifar_resnet/resnet56_cifar10.pth'])
def test_real_checkpoints(file: str, shared_data: Path) -> None:
    path = shared_data / file
    assert same(torch.load(path, weights_only=False), load(str(path)))
