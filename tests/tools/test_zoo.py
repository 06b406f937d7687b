"""The zoo checks pass a good config, name the failed stage of others, and resume."""

import subprocess
import sys
from dataclasses import replace

import pytest

from tools.zoo import check as zoo
from tools.zoo import options as zoo_options
from tools.zoo.check import ZooResult, check_config, family_of
from tools.zoo.table import counts, zoo_table

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


def test_optional_checks_are_made_when_asked_for(monkeypatch):
    options = ('fake_quant', 'export')
    result = check_config('mmpretrain', SMALL, options=options)
    assert (result.stage, result.export, result.fake_quant) == ('passed',) * 3
    plain = zoo_table([GOOD]).splitlines()
    table = zoo_table([result, replace(result, export='ExportError: no')])
    head, _, row, _ = table.splitlines()
    assert '| export | fake quant |' in head and 'export' not in plain[0]
    assert '| 1 of 2 | 2 of 2 |' in row

    def wrong(mutator):
        raise RuntimeError('some model')

    monkeypatch.setitem(zoo_options.OPTIONS, 'export', wrong)
    result = check_config('mmpretrain', SMALL, options=('export',))
    assert result.stage == 'passed' and result.fake_quant == ''
    assert result.export == 'RuntimeError: some model'


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


