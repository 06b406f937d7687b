"""Names that nobody would read are refused, with the closest one that is read."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmcompress.errors import CompressionError
from mmcompress.openmmlab.settings import check_settings
from mmcompress.options import options_of
from mmcompress.registry import EVALUATORS, SEARCHERS

REPO = Path(__file__).resolve().parents[2]
GOOD = dict(
    compression=dict(
        input_shape=(3, 8, 8), channel=dict(type='ChannelMutator', divisor=4),
        reconstruct=dict(ridge=1e-3), quant=None,
        mine=dict(type='ReconstructMutator', sequential=False)),
    search_cfg=dict(
        type='PolicySearchLoop', study='s', save_checkpoints=False, time_limit=60,
        searcher=dict(type='SeerNet', evaluations=4, predictor=dict(iterations=3)),
        evaluator=dict(metric='accuracy/top1', finetune=dict(steps=3)),
        targets=dict(macs=0.5), prices=dict(images=8), latency=dict(threads=2),
        custom_hooks=[]),
    compression_of_mine=dict(divisor=3),
    searcher_cfg=dict(type='Random', evaluations=1))


def changed(**changes: object) -> Config:
    """The good config with settings by dotted name."""
    config = Config(GOOD)
    config.merge_from_dict(changes)
    return config


def test_what_is_read_may_be_there():
    check_settings(changed())
    for value in (True, False, None):
        check_settings(changed(**{'compression.reconstruct': value}))
    check_settings(Config(dict(model=dict(type='ResNet'))))


@pytest.mark.parametrize('name, value, message', [
    ('compresion.channel.divisor', 8, "'compresion'.* Did you mean 'compression'"),
    ('serach_cfg.targets.macs', 0.5, "'serach_cfg'.* Did you mean 'search_cfg'"),
    ('compression.chanel.divisor', 8, "option 'chanel'; .* Did you mean 'channel'"),
    ('compression.quants.bits', [8], "option 'quants'; .* Did you mean 'quant'"),
    ('compression.input_shap', (3, 8, 8), "Did you mean 'input_shape'"),
    ('compression.channel.devisor', 8, "'devisor'; .* Did you mean 'divisor'"),
    ('compression.channel.type', 'ChanelMutator', "Did you mean 'ChannelMutator'"),
    ('compression.reconstruct.rigde', 1, "'rigde'; .* Did you mean 'ridge'"),
    ('compression.channel', 8, 'compression.channel is a dict of options, not 8'),
    ('compression.quant', True, 'compression.quant is a dict of options, not True'),
    ('search_cfg.tragets.macs', 0.5, "'tragets'; .* Did you mean 'targets'"),
    ('search_cfg.searcher.evalutions', 3, "Did you mean 'evaluations'"),
    ('search_cfg.searcher.predictor.iteration', 3, "Did you mean 'iterations'"),
    ('search_cfg.evaluator.image', 3, "'image'; .* Did you mean 'images'"),
    ('search_cfg.evaluator.finetune.step', 3, "Did you mean 'steps'"),
    ('search_cfg.prices.image', 3, "Did you mean 'images'"),
    ('search_cfg.latency.thread', 3, "Did you mean 'threads'"),
    ('search_cfg', 3, 'search_cfg is a dict of options, not 3'),
    ('search_cfg.searcher', 'Random', "searcher of search_cfg is a dict, not 'Random'"),
])
def test_mistyped_names(name, value, message):
    with pytest.raises(CompressionError, match=message):
        check_settings(changed(**{name: value}))


def compress(session: object, epochs: int = 3, runtime: str = 'onnxruntime') -> None:
    """Takes the options of a further section."""


@pytest.mark.parametrize('name, message', [
    ('compress_cfg.epoch', "compress_cfg has no option 'epoch'.*Did you mean 'epochs'"),
    ('compres_cfg.epochs', "'compres_cfg' of the config. Did you mean 'compress_cfg'")])
def test_a_further_section(name, message):
    check_settings(changed(**{'compress_cfg.epochs': 3}), compress_cfg=compress)
    with pytest.raises(CompressionError, match=message):
        check_settings(changed(**{name: 3}), compress_cfg=compress)


def test_options_of_a_class_that_passes_on_what_it_does_not_know():
    EVALUATORS.import_from_location()
    found = list(options_of(EVALUATORS.get('StageLossEvaluator')))
    assert found[:2] == ['stages', 'temperature'] and 'calibration_images' in found
    SEARCHERS.import_from_location()
    assert list(options_of(SEARCHERS.get('Random'))) == [
        'space', 'costs', 'targets', 'evaluations', 'seed']


@pytest.mark.parametrize('path', [
    str(p.relative_to(REPO)) for p in sorted(REPO.glob('configs/*/*.py'))
    if p.parent.name != '_base_'])
def test_shipped_configs(path):
    check_settings(Config.fromfile(REPO / path))
