"""The zoo checks pass a good config, name the failed stage of others, and resume."""

import csv
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from mmcompress.graph import trace, verify
from mmcompress.kinds import ModelKind, declare_kind
from mmcompress.mutators import ChannelMutator
from mmcompress.mutators.reconstruct import ReconstructMutator
from mmcompress.testing.auxiliary import LearnsZeros, WithAuxiliary
from tools.zoo import check as zoo
from tools.zoo import further
from tools.zoo.check import ZooResult, check_config, family_of
from tools.zoo.further import FURTHER, answers
from tools.zoo.repair import check_repair
from tools.zoo.subject import Failed, NotApplicable, Subject
from tools.zoo.table import counts, zoo_table
from tools.zoo.training import check_distill, check_training

SMALL = '_base_/models/resnet18_cifar.py'
GOOD = ZooResult('mmdet', 'fcos/a.py', 'fcos', 'passed', units=4, governed=0.9,
                 trace_seconds=2.0)


@pytest.mark.parametrize('config, family', [
    ('fcos/fcos_r50.py', 'fcos'), ('resnet18_cifar.py', 'resnet18'),
    ('vit-base-p16.py', 'vit'), ('efficientnet_b0.py', 'efficientnet')])
def test_family(config, family):
    assert family_of(config) == family


def test_a_small_classifier_passes():
    result = check_config('mmpretrain', SMALL, 'resnet')
    assert (result.stage, result.reason) == ('passed', '')
    assert result.units > 0 and result.left_out == 0 and result.governed > 0.95


@pytest.mark.slow
def test_further_checks_are_made_when_asked_for():
    result = check_config('mmpretrain', SMALL, further=tuple(FURTHER))
    assert {name: getattr(result, name) for name in FURTHER} == dict.fromkeys(
        FURTHER, 'passed'), result
    # 62 parameters of ResNet-18 at CIFAR's size: 20 convs, 20 norms of two, the linear.
    assert 'training: loss ' in result.measured
    assert '62 gradients, 0 excused' in result.measured
    assert 'repair: ' in result.measured and 'repair ' in result.further_seconds


@pytest.fixture
def subject():
    """A small network with a head that only training calls, as the checks get it."""
    torch.manual_seed(0)
    model = WithAuxiliary()
    declare_kind(model, LearnsZeros())
    mutator = ChannelMutator(divisor=1)
    mutator.prepare(model, verify(model, trace(model, (3, 8, 8))))
    return Subject({}, mutator)


def test_a_step_excuses_what_the_dense_network_gives_no_gradient(subject):
    # Of a, b, two norms, two convs, one with a bias: 2 + 2 + 4 + 3; idle: 2.
    assert '11 gradients, 2 excused' in check_training(subject)


def test_a_network_that_cannot_be_trained_fails(subject, monkeypatch):
    slim = subject.slim()
    slim.aux[0] = nn.Conv2d(8, 6, 3, bias=False)  # not cut
    monkeypatch.setattr(Subject, 'slim', lambda self: slim)
    with pytest.raises(RuntimeError, match='channels'):
        check_training(subject)
    slim.aux = nn.Identity()
    slim.b.weight.requires_grad_(False)
    slim.norm.forward = lambda x: x
    with pytest.raises(Failed, match='2 parameters get no gradient, first norm'):
        check_training(subject)
    monkeypatch.setattr(LearnsZeros, 'loss', lambda *_: torch.tensor(float('inf')))
    with pytest.raises(Failed, match='the loss is inf'):
        check_training(subject)


def test_the_repair_must_bring_the_outputs_nearer(subject, monkeypatch):
    assert 'sliced' in check_repair(subject)
    monkeypatch.setattr(ReconstructMutator, 'write', lambda *_: None)
    with pytest.raises(Failed, match='not nearer'):
        check_repair(subject)


def test_checks_that_ask_for_what_is_not_there_do_not_apply(subject):
    with pytest.raises(NotApplicable, match='heads'):
        check_distill(subject)
    declare_kind(subject.model, ModelKind())
    with pytest.raises(NotApplicable, match='not known'):
        check_training(subject)


def test_no_further_check_hides_another(monkeypatch):
    def wrong(subject):
        raise RuntimeError('some\nmodel')

    def absent(subject):
        raise NotApplicable('no head')

    def slow(subject):
        while True:
            time.sleep(0.01)

    monkeypatch.setattr(further, 'FURTHER', dict(
        training=wrong, repair=slow, export=absent, distill=lambda _: 'well'))
    found = list(answers(None, ('distill', 'training', 'export', 'repair'), 0.1))
    assert [(a.name, a.status) for a in found] == [
        ('training', 'running'), ('training', 'RuntimeError: some model'),
        ('repair', 'running'), ('repair', 'time: over 0.1 s'),
        ('export', 'running'), ('export', 'n/a: no head'),
        ('distill', 'running'), ('distill', 'passed')]
    assert found[-1].measured == 'well'


def test_columns_of_further_checks_say_what_they_apply_to():
    rows = [replace(GOOD, export='passed', distill='passed'),
            replace(GOOD, export='n/a: no file'), replace(GOOD, export='Error: x')]
    head, _, row, _ = zoo_table(rows).splitlines()
    assert '| export | distill |' in head and 'repair' not in head
    assert '| 1 of 2, 1 n/a | 1 of 1 |' in row
    assert 'export' not in zoo_table([GOOD])


def test_the_failed_stage_is_named(monkeypatch):
    assert check_config('mmpretrain', 'no/such.py').stage == 'build'
    monkeypatch.setattr(zoo, 'rebuild_error', lambda *_: 0.5)
    result = check_config('mmpretrain', SMALL)
    assert result.stage == 'rebuild' and '5.0e-01' in result.reason
    assert result.units > 0, 'what was measured before is kept'
    monkeypatch.setattr(zoo, 'CLOSE', -1.0)
    assert check_config('mmpretrain', SMALL).stage == 'outputs'


def test_neither_weights_nor_other_processes_are_looked_for():
    model = dict(init_cfg=dict(type='Pretrained', checkpoint='https://nowhere'),
                 heads=[dict(pretrained='torchvision://resnet50')],
                 teacher_ckpt='https://nowhere',
                 postprocess_model=dict(checkpoint='https://nowhere'),
                 roi_layer=dict(type='RoIAlign', use_torchvision=True),
                 norm_cfg=dict(type='MMSyncBN', requires_grad=True))
    zoo._prepare(model)
    assert model == dict(init_cfg=None, heads=[dict(pretrained=None)],
                         teacher_ckpt=None, postprocess_model=None,
                         roi_layer=dict(type='RoIAlign', use_torchvision=False),
                         norm_cfg=dict(type='BN', requires_grad=True))


@pytest.mark.parametrize('package, config, shape', [
    # Pedestrians are upright; the pipeline's scale is (width, height).
    ('mmdet', 'reid/reid_r50_8xb32-6e_mot15train80_test-mot15val20.py', (3, 256, 128)),
    ('mmpretrain', 'resnet/resnet18_8xb16_cifar10.py', (3, 224, 224)),
    ('mmpretrain', 'resnet/resnet18_8xb32_in1k.py', (3, 224, 224)),
    ('mmpretrain', SMALL, (3, 224, 224)),
    ('mmdet', 'retinanet/retinanet_r18_fpn_1x_coco.py', zoo.DETECTOR_SHAPE)])
def test_the_size_is_one_that_the_network_takes(package, config, shape):
    cfg = zoo.load(package, config)
    assert zoo.shape_of(zoo.build(cfg.model), cfg) == shape


def test_two_stage_detectors_are_counted_on_few_proposals():
    cfg = zoo.load('mmdet', 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py')
    assert cfg.model.test_cfg.rpn.max_per_img == zoo.BOXES


def test_table_counts_only_what_passed_with_enough_macs():
    little = replace(GOOD, config='fcos/b.py', governed=0.4)
    failed = replace(GOOD, config='ssd/c.py', family='ssd', stage='costs',
                     reason='macs | off', units=0)
    assert [counts(r) for r in (GOOD, little, failed)] == [True, False, False]
    rows = zoo_table([GOOD, little, failed]).splitlines()[2:]
    assert rows[0] == '| mmdet | fcos | 2 | 1 | 2 | 65% | 2.0 |  |'
    assert rows[1] == '| mmdet | ssd | 1 | 0 | 0 |  |  | costs: macs / off |'
    assert rows[2].startswith('| mmdet | **all** | 3 | 1 | 2 |')


CRASHING = """
import os, sys
sys.path.insert(0, 'tools')
import check_zoo
check_zoo.FURTHER.update(
    training=lambda subject: 'fine', repair=lambda subject: os._exit(7))
check_zoo.main()
"""


@pytest.mark.slow
def test_a_check_that_ends_the_process_loses_no_earlier_answer(repo, tmp_path):
    out = tmp_path / 'zoo.csv'

    def run(*extra):
        return subprocess.run(
            [sys.executable, '-c', CRASHING, '--package', 'mmpretrain', '--out',
             str(out), SMALL, *extra], cwd=repo, capture_output=True, text=True)

    assert run('--checks', 'training,repair,export').returncode == 0
    row, = csv.DictReader(out.open(newline=''))
    assert row['stage'] == row['training'] == 'passed' and row['units'] != '0'
    assert row['repair'].startswith('crash: exit code 7')
    assert row['export'] == 'not reached: repair ended the process'
    assert row['distill'] == row['fake_quant'] == '' and row['revision']
    assert 'no check is called nothing' in run('--checks', 'nothing').stderr
    lines = out.read_text().replace(',revision', '').splitlines()
    out.write_text('\n'.join(lines))
    assert 'has other columns than this version writes' in run().stderr


@pytest.mark.slow
def test_tool_isolates_limits_and_resumes(repo, tmp_path):
    out = tmp_path / 'zoo.csv'

    def run(*extra):
        return subprocess.run(
            [sys.executable, str(repo / 'tools/check_zoo.py'), '--package',
             'mmpretrain', '--prefix', '_base_/models/', '--out', str(out), *extra],
            capture_output=True, text=True, check=True).stdout

    assert 'resnet18_cifar.py: passed' in run('resnet18_cifar.py')
    assert '2 configs, 1 of them done' in run(
        'resnet18_cifar.py', 'resnet34_cifar.py', '--seconds', '1')
    lines = out.read_text().splitlines()
    assert len(lines) == 3 and ',time,over 1 s,' in lines[2]


