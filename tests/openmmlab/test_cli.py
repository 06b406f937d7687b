"""What the command-line tools share."""

import argparse

import pytest
import torch
from torch import nn

from mmcompress.errors import CompressionError, TargetError
from mmcompress.openmmlab.cli import base_parser, load_config, load_weights, run_tool
from mmcompress.registry import SEARCHERS, build


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


@pytest.mark.parametrize('wrap, prefix', [(True, ''), (False, ''), (True, 'module.')])
def test_weights_load(tmp_path, wrap, prefix):
    source, target = net(), net()
    state = {prefix + k: v for k, v in source.state_dict().items()}
    torch.save(dict(state_dict=state) if wrap else state, tmp_path / 'w.pth')
    load_weights(target, str(tmp_path / 'w.pth'))
    assert torch.equal(target[0].weight, source[0].weight)


def test_weights_must_fit(tmp_path):
    path = tmp_path / 'w.pth'
    state = net().state_dict()
    del state['0.bias'], state['1.num_batches_tracked']
    torch.save(state, path)
    with pytest.raises(CompressionError, match=r'1 tensors are missing, e.g. 0.bias'):
        load_weights(net(), str(path))
    torch.save(nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5)).state_dict(), path)
    with pytest.raises(CompressionError, match=r'6 tensors have another shape, e.g.'):
        load_weights(net(), str(path))
    path.write_bytes(b'nonsense')
    with pytest.raises(CompressionError, match='cannot be loaded'):
        load_weights(net(), str(path))


class Deep(nn.Module):
    """Some blocks, and a head."""

    def __init__(self, blocks: int, **parts: nn.Module) -> None:
        super().__init__()
        self.backbone = nn.Sequential(*(nn.Linear(2, 2) for _ in range(blocks)))
        for name, part in parts.items():
            setattr(self, name, part)


def test_weights_of_a_deeper_network_are_refused(tmp_path):
    # As ResNet-56's in a ResNet-20: every tensor of the smaller one is there.
    path = tmp_path / 'w.pth'
    torch.save(Deep(3).state_dict(), path)
    with pytest.raises(CompressionError, match=(
            r'does not fit Deep: 2 of its tensors have no place in it, e.g. '
            r'backbone.2.weight, backbone.2.bias. Use the checkpoint that belongs to '
            'this config')):
        load_weights(Deep(2), str(path))


def test_parts_that_a_model_lacks_are_left_out(tmp_path, monkeypatch):
    path, said = tmp_path / 'w.pth', []
    monkeypatch.setattr(
        'mmcompress.openmmlab.cli.print_log', lambda text, *_: said.append(text))
    torch.save(Deep(2, auxiliary_head=nn.Linear(2, 2)).state_dict(), path)
    load_weights(Deep(2), str(path))
    assert said == [f'{path} also holds auxiliary_head, which this model lacks.']


@pytest.mark.parametrize('key', [
    'ema_backbone_0_weight', 'data_preprocessor.mean', 'backbone.0.num_batches_tracked',
    'backbone.attn_mask', 'head.loss_cls.cum_samples', 'backbone.AuxLogits.fc.weight',
    'roi_head.mask_head.conv.weight', 'teacher.fc.weight'])
def test_what_is_harmless_in_a_checkpoint(tmp_path, key):
    model = Deep(1, data_preprocessor=nn.Identity(), head=nn.Sequential(),
                 roi_head=nn.Sequential())
    torch.save({**model.state_dict(), key: torch.ones(2)}, tmp_path / 'w.pth')
    load_weights(model, str(tmp_path / 'w.pth'))


@pytest.mark.parametrize('key', [
    'backbone.1.weight', 'backbone.0.weight_g', 'backbone.se_layer.conv.weight',
    'roi_head.0.mask_head_2', 'scale'])
def test_what_is_of_another_network(tmp_path, key):
    # As the weights of an SE-ResNet, or of one with more blocks.
    model = Deep(1, roi_head=nn.Sequential(nn.Sequential()))
    torch.save({**model.state_dict(), key: torch.ones(2)}, tmp_path / 'w.pth')
    with pytest.raises(CompressionError, match=f'no place in it, e.g. {key}'):
        load_weights(model, str(tmp_path / 'w.pth'))


def test_tables_that_a_config_says_may_be_missing(tmp_path):
    model = Deep(1)
    model.backbone.register_buffer('relative_position_index', torch.arange(4))
    torch.save(Deep(1).state_dict(), tmp_path / 'w.pth')
    load_weights(model, str(tmp_path / 'w.pth'))


def test_what_is_missing_and_what_is_foreign_is_said_together(tmp_path):
    torch.save(dict(Deep(1).state_dict(), scale=torch.ones(2)), tmp_path / 'w.pth')
    with pytest.raises(CompressionError, match=(
            r'2 tensors are missing, e.g. backbone.1.weight, backbone.1.bias and 1 of '
            r'its tensors have no place in it, e.g. scale\. Use the checkpoint')):
        load_weights(Deep(2), str(tmp_path / 'w.pth'))


def test_an_empty_checkpoint(tmp_path):
    (tmp_path / 'w.pth').touch()
    with pytest.raises(CompressionError, match=(
            r"w\.pth' cannot be loaded: it is empty or ends too early\. Check load_")):
        load_weights(net(), str(tmp_path / 'w.pth'))


def arguments(*words: str) -> argparse.Namespace:
    return base_parser('A tool.').parse_args(words)


def test_config_and_options(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text('a = dict(b=1, c=[1, 2])\n')
    cfg = load_config(arguments(str(path), '--cfg-options', 'a.b=2', 'a.c=[3]'))
    assert (cfg.a.b, cfg.a.c) == (2, [3])
    assert cfg.work_dir == 'work_dirs/mine' and cfg.launcher == 'none'
    assert load_config(arguments(str(path), '--work-dir', 'w')).work_dir == 'w'
    with pytest.raises(CompressionError, match='--cfg-options does not fit'):
        load_config(arguments(str(path), '--cfg-options', 'a.c.d=2'))


def test_data_root_is_an_option_of_every_config(tmp_path, monkeypatch):
    monkeypatch.setenv('DATA_ROOT', '/theirs')
    path = tmp_path / 'mine.py'
    path.write_text("root = '{{$DATA_ROOT:../data}}/coco/'\nfile = root + 'a.json'\n")
    assert load_config(arguments(str(path))).file == '/theirs/coco/a.json'
    cfg = load_config(arguments(str(path), '--cfg-options', 'DATA_ROOT=/ours'))
    assert cfg.file == '/ours/coco/a.json' and 'DATA_ROOT' not in cfg
    monkeypatch.delenv('DATA_ROOT')
    assert load_config(arguments(str(path))).file == '../data/coco/a.json'


def test_options_are_not_abbreviated(tmp_path, capsys):
    with pytest.raises(SystemExit):
        arguments('mine.py', '--work', 'w')
    assert 'unrecognized arguments: --work' in capsys.readouterr().err


@pytest.mark.parametrize('error, ends', [
    (TargetError('Raise it.'), 'TargetError: Raise it.'),
    (FileNotFoundError('no a.json'), 'A file is missing: no a.json.'),
    (KeyError('X is not in the mmengine::model registry.'), 'an unknown type: X is'),
])
def test_mistakes_end_in_a_sentence(error, ends):
    def main() -> None:
        raise error

    with pytest.raises(SystemExit, match=ends):
        run_tool(main)


def test_a_defect_keeps_its_traceback():
    def main() -> None:
        raise KeyError('a')

    with pytest.raises(KeyError):
        run_tool(main)


def test_build_names_what_is_known():
    with pytest.raises(CompressionError, match=r"no searcher 'Nobody'; known: Evol"):
        build(SEARCHERS, dict(type='Nobody'))
    with pytest.raises(CompressionError, match=r"'Uniform' .*'evals'; it takes eval"):
        build(SEARCHERS, dict(type='Uniform', evals=3), space=None, costs=None,
              targets=())
