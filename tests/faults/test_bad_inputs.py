"""Bad inputs: each ends in one sentence that names it, before any work.

``OPTIONS`` and ``COMMANDS`` are the table of what users type, at most three rows an
option; the others are files and calls. What needs a whole run to go wrong is in
tests/tools/test_bad_input.py.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import onnx_ir as ir
import pytest
import torch
from command_lines import run_here
from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn

import mmcompress as mmc
from mmcompress.errors import CompressionError
from mmcompress.exporter.metadata import read_metadata
from mmcompress.exporter.runtimes import load_runtime
from mmcompress.latency.layer_timer import LayerTimer
from mmcompress.openmmlab.cli import load_weights
from mmcompress.openmmlab.hooks import CalibrationHook, SearchLoggerHook
from mmcompress.openmmlab.loops import SupernetTrainLoop
from mmcompress.openmmlab.pipeline.options import CompressOptions
from mmcompress.openmmlab.settings import check_settings
from mmcompress.policy.files import PolicyFile
from mmcompress.prices.store import PriceStore
from mmcompress.prices.table import PriceTable
from mmcompress.report import load_outcome
from mmcompress.report.networks import load_networks
from mmcompress.report.results import load_results
from mmcompress.searchers.predictors import Predictor
from mmcompress.searchers.ranking import Ranking
from mmcompress.testing.toy import toy_space

COUNT = (0, 2.5, 'ten'), 'a whole number of at least 1'
NATURAL = (-1, 1.5, True), 'a whole number of at least 0'
TWO = (1, 2.5), 'a whole number of at least 2'
SHARE = (-0.1, 1.5, math.nan), 'a number of at least 0 and at most 1'
ABOVE_0 = (0, 1.5, 'x'), 'a number above 0 and at most 1'
POSITIVE = (0, math.inf, 'x'), 'a number above 0'
WEIGHT = (-1.0, math.nan), 'a number of at least 0'
FLAG = ('no', 1), 'True or False'
TEXT = (3,), 'a text'
NAME = ('foo', 3), 'one of '
NAMES = ([3], 7), 'a list, each a text'
PATTERNS = ([3], 7), 'a text or a list, each a text'
DICT = (3, [1]), 'a dict'
BITS = ([9], [0, 4], 4), 'a list, each one of 2, 3, 4, 5, 6, 7, 8, 32'
ANY_SEARCH = dict(evaluations=COUNT, seed=NATURAL)
ANY_PRICES = dict(images=COUNT, batch_size=COUNT, dataset=DICT, augment=FLAG)

OPTIONS = {
    ('search_cfg', None): dict(
        searcher=DICT, evaluator=DICT, targets=DICT, storage=TEXT, study=TEXT,
        save_checkpoints=FLAG, seed=NATURAL, prices=DICT, latency=DICT,
        time_limit=POSITIVE, stale_after=POSITIVE),
    ('search_cfg.searcher', 'Random'): ANY_SEARCH,
    ('search_cfg.searcher', 'Uniform'): ANY_SEARCH,
    ('search_cfg.searcher', 'TwoStage'): dict(ANY_SEARCH, exact=FLAG),
    ('search_cfg.searcher', 'Evolution'): dict(
        ANY_SEARCH, initial=SHARE, elite=COUNT, tournament=COUNT, crossover=SHARE,
        mutation=SHARE, step=POSITIVE),
    ('search_cfg.searcher', 'Islands'): dict(
        ANY_SEARCH, population=COUNT, islands=COUNT, top=COUNT, mutation=SHARE,
        migrants=NATURAL, every=COUNT),
    ('search_cfg.searcher', 'LeGR'): dict(
        ANY_SEARCH, population=COUNT, tournament=COUNT, mutation=SHARE,
        deviation=POSITIVE, reduction=NAME, min_channels=NATURAL, search_at=DICT,
        ranking=TEXT),
    ('search_cfg.searcher', 'SeerNet'): dict(
        ANY_SEARCH, initial=ABOVE_0, verify=SHARE, batch=COUNT, acquisition=NAME,
        weighting=FLAG, predictor=DICT, load=TEXT, population=TWO,
        generations=NATURAL, starts=COUNT, steps=COUNT),
    ('search_cfg.searcher.predictor', 'GPPredictor'): dict(
        seed=NATURAL, iterations=COUNT),
    ('search_cfg.searcher.predictor', 'RidgePredictor'): dict(
        seed=NATURAL, penalties=(([0], [-1.0], 3), 'a list, each a number above 0')),
    ('search_cfg.searcher.predictor', 'MLPEnsemblePredictor'): dict(
        seed=NATURAL, members=TWO, hidden=COUNT, steps=TWO, lr=POSITIVE,
        weight_decay=WEIGHT),
    ('search_cfg.evaluator', 'PolicyEvaluator'): dict(
        metric=TEXT, images=COUNT, calibration_images=NATURAL, dynamic_bn=NAME,
        dataset=DICT, evaluator=((3, 'x'), 'a dict or a list or None'),
        batch_size=COUNT, rule=NAME, seed=NATURAL, amp=FLAG, finetune=DICT,
        augment=FLAG),
    ('search_cfg.evaluator', 'StageLossEvaluator'): dict(
        stages=((3,), 'a text or a list'), temperature=POSITIVE),
    ('search_cfg.evaluator.finetune', None): dict(
        steps=NATURAL, lr=POSITIVE, momentum=SHARE, weight_decay=WEIGHT,
        batch_size=COUNT),
    ('search_cfg.prices', 'GradientPrices'): ANY_PRICES,
    ('search_cfg.prices', 'MeasuredPrices'): dict(
        ANY_PRICES, dynamic_bn=NAME, measure=NAME),
    ('search_cfg.prices', 'ReconstructionPrices'): dict(images=COUNT, measure=NAME),
    ('search_cfg.prices', 'StageLossPrices'): dict(
        images=COUNT, choices=((3, 2.5), 'a whole number of at least 4'),
        temperature=POSITIVE),
    ('search_cfg.latency', None): dict(backend=NAME, threads=COUNT),
    ('compression.channel', 'ChannelMutator'): dict(
        importance=NAME, divisor=((-8, 0, 2.5), 'a whole number of at least 1'),
        min_ratio=SHARE, step=ABOVE_0, dense=PATTERNS),
    ('compression.quant', 'QuantMutator'): dict(
        bits=BITS, weight_bits=BITS, activation_bits=BITS, keep8=PATTERNS,
        skip=PATTERNS,
        observer=NAME, symmetric=FLAG, bias_correction=FLAG, rounding=NAME),
    ('compression.reconstruct', 'ReconstructMutator'): dict(
        ridge=POSITIVE, sequential=FLAG, residual=FLAG, norm_images=COUNT),
    ('compress_cfg', None): dict(
        epochs=NATURAL, lr=POSITIVE, distill=WEIGHT, finetune=DICT, int8=FLAG,
        int8_epochs=NATURAL, int8_lr=POSITIVE, int8_limit=WEIGHT,
        skip=NAMES, weight_bits=((6, '8'), 'one of 7, 8'),
        calibration_images=COUNT, runtime=NAME, threads=COUNT,
        repeats=((2, 2.5), 'a whole number of at least 3')),
}
"""By section and type: options, the values of each, and what they should be."""

ROWS = [pytest.param(section, kind, name, value, said, id=f'{section}.{name}={value}')
        for (section, kind), options in OPTIONS.items()
        for name, (values, said) in options.items() for value in values]


def config(section: str, kind: str | None, **options: Any) -> Config:
    """A config of a search with options in one section."""
    good = dict(
        compression=dict(channel={}),
        search_cfg=dict(searcher=dict(type='SeerNet'), evaluator=dict(metric='loss'),
                        targets=dict(macs=0.5)))
    given = dict(options, **(dict(type=kind) if kind else {}))
    cfg = Config(good)
    cfg.merge_from_dict({
        section: dict(given, _delete_=True)} if section == 'search_cfg.searcher' else {
        f'{section}.{name}': value for name, value in given.items()})
    return cfg


def check(cfg: Config) -> None:
    """What a tool does with a config before any work."""
    check_settings(cfg)
    CompressOptions.of(cfg)


@pytest.mark.parametrize('section, kind, name, value, said', ROWS)
def test_option(section, kind, name, value, said) -> None:
    with pytest.raises(CompressionError) as caught:
        check(config(section, kind, **{name: value}))
    message = str(caught.value)
    assert re.search(rf'^{name} of .* is {re.escape(said)}', message), message
    assert message.endswith('.') and '\n' not in message


@pytest.mark.parametrize('section, kind', OPTIONS)
def test_no_option_is_left_out(section: str, kind: str | None) -> None:
    """Good values pass, other names are refused, and every option has rows."""
    check(config(section, kind))
    with pytest.raises(CompressionError, match=r'takes? (.*)') as caught:
        check(config(section, kind, nonsense=1))
    known = re.findall(r'\w+', re.search(r'takes (.*?)\.', str(caught.value))[1])
    inherited = {'type', 'custom_hooks', 'path', 'space'}
    if kind in ('StageLossEvaluator', 'StageLossPrices'):
        return  # the others are those of the class that it derives from
    assert set(known) - inherited <= set(OPTIONS[section, kind])


COMMANDS = {
    ('search', '--workers'): (['0', '-1', 'two'], 'a whole number of at least 1'),
    ('search', '--launcher'): (['ssh'], 'invalid choice'),
    ('search', '--wrokers'): (['2'], 'unrecognized arguments'),
    ('compress', '--epochs'): (['-1', '1.5'], 'a whole number of at least 0'),
    ('compress', '--int8-epochs'): (['-1', 'x'], 'a whole number of at least 0'),
    ('compress', '--distill'): (['-1', 'x', 'nan'], 'a number of at least 0'),
    ('compress', '--runtime'): (['tensorrt'], 'invalid choice'),
    ('train', '--distill'): (['-1', 'x', 'inf'], 'a number of at least 0'),
    ('train', '--local_rank'): (['x'], 'invalid int value'),
    ('test', '--threads'): (['0', 'x'], 'a whole number of at least 1'),
    ('test', '--backend'): (['tensorrt'], 'invalid choice'),
    ('export', '--batch'): (['0', '-2', '1.5'], 'a whole number of at least 1'),
    ('export', '--calibration-images'): (['-5', '0'], 'a whole number of at least 1'),
    ('export', '--fit-steps'): (['-5', 'x'], 'a whole number of at least 0'),
    ('export', '--tolerance'): (['0', '-1', 'nan'], 'a number above 0'),
    ('export', '--int8-limit'): (['-1', 'nan'], 'a number of at least 0'),
    ('export', '--weight-bits'): (['6'], 'invalid choice'),
    ('export', '--shape'): (['0', 'x'], 'a whole number of at least 1'),
    ('benchmark', '--threads'): (['0'], 'a whole number of at least 1'),
    ('benchmark', '--streams'): (['0', '-1'], 'a whole number of at least 1'),
    ('benchmark', '--repeats'): (['0', '2'], 'a whole number of at least 3'),
    ('benchmark', '--warm-up'): (['-1'], 'a whole number of at least 0'),
    ('make_digits', '--seed'): (['-1', 'x'], 'a whole number of at least 0'),
}
"""By tool and option: the values and the expected words."""

CALLS = [pytest.param(tool, option, value, said, id=f'{tool} {option} {value}')
         for (tool, option), (values, said) in COMMANDS.items() for value in values]


@pytest.mark.parametrize('tool, option, value, said', CALLS)
def test_command(tool, option, value, said, tmp_path: Path, capsys) -> None:
    before = ['c.py', 'c.pth'][:dict(benchmark=1, make_digits=1).get(tool, 2)]
    before = before if tool in ('export', 'test') else before[:1]
    ended = run_here(tool, *before, option, *[value] * (1 + (option == '--shape')),
                     cwd=tmp_path)
    words = capsys.readouterr().err
    assert ended.code == 2 and said in words, (ended, words)
    assert 'Traceback' not in words and not list(tmp_path.iterdir())


# -- files -------------------------------------------------------------------------
DEEP = '[' * 100_000
POLICY = dict(
    format='mmcompress.policy', version=1, fingerprint='f', input_shape=[3, 8, 8],
    widths={'a': 2}, bits={'a': [8, 8]}, channels={'a': [0, 1]}, facts={})
POLICIES = {
    'empty': ('', 'cannot be read as JSON'), 'deep': (DEEP, 'nested too deeply'),
    'binary': (b'\xff\xfe\x00', 'cannot be read as JSON'),
    'list': ('[]', 'is not a policy file'), 'null': ('null', 'is not a policy file'),
    'cut': (json.dumps(POLICY)[:-9], 'cannot be read as JSON'),
    'no widths': (dict(widths=None), 'is damaged'),
    'width': (dict(widths={'a': 'two'}), 'is damaged'),
    'width list': (dict(widths=[1]), 'is damaged'),
    'bits': (dict(bits={'a': 8}), 'is damaged'),
    'more bits': (dict(bits={'a': [8, 8, 8]}), 'is damaged'),
    'negative bits': (dict(bits={'a': [-4, 8]}), 'neither 2 to 8 nor 32'),
    'huge bits': (dict(bits={'a': [10 ** 30, 8]}), 'neither 2 to 8 nor 32'),
    'fingerprint': (dict(fingerprint=3), 'fingerprint of the policy is a text'),
    'shape': (dict(input_shape=['3', 8, 8]), 'input_shape of the policy is a list'),
    'no shape': (dict(input_shape=8), 'is damaged'),
    'negative shape': (dict(input_shape=[3, -8, 8]), 'input_shape of the policy'),
    'channels': (dict(channels={'a': [1, 0]}), 'not ascending'),
    'huge channels': (dict(channels={'a': [0, 10 ** 30]}), 'is damaged'),
    'negative channels': (dict(channels={'a': [-1, 0]}), 'not ascending'),
    'channel text': (dict(channels={'a': 'ab'}), 'is damaged'),
    'facts': (dict(facts=[1]), 'facts of the policy is a dict'),
    'points': (dict(points=[3]), 'is damaged'),
    'point': (dict(points=[dict(module='a', quantizer=3)]), 'quantizer of'),
    'version': (dict(version='2'), 'has version 2'),
    'format': (dict(format=1), 'is not a policy file'),
}


def written(path: Path, content: Any, good: dict | None = None) -> Path:
    """A file of bytes, of text, or of good JSON data with changes."""
    if isinstance(content, dict):
        content = json.dumps({**(good or {}), **content})
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def sentence(function, *args: Any) -> str:
    """What a call that must fail says: one line."""
    with pytest.raises(CompressionError) as caught:
        function(*args)
    assert '\n' not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize('case', POLICIES)
def test_policy_file(case: str, tmp_path: Path) -> None:
    content, said = POLICIES[case]
    path = written(tmp_path / 'p.json', content, POLICY)
    found = sentence(PolicyFile.load, path)
    assert said in found and 'p.json' in found, found
    PolicyFile.load(written(path, POLICY))


def test_too_large_a_file(tmp_path: Path) -> None:
    path = tmp_path / 'p.json'
    with path.open('wb') as file:
        file.truncate(65 << 20)
    assert 'larger than 64 MiB' in sentence(PolicyFile.load, path)


RANKING = dict(format='mmcompress.ranking', version=1, fingerprint='f', base='l2',
               reduction='sum', factors={'a': [1.0, 0.0]}, floors={'a': 1})
GRAPH = dict(units=[], layers=[], macs=1, params=1, governed=1.0,
             input_shape=[3, 8, 8], fingerprint='f')
TRADEOFF = dict(rows=[dict(target='dense')], points=[], targets=[], best=[])
OUTCOME = dict(version=1, facts={}, tradeoff=TRADEOFF, graph=GRAPH, policies={})


def changed(**changes: Any) -> dict:
    """The trade-off of a good outcome with changes."""
    return dict(tradeoff={**TRADEOFF, **changes})


JSON_FILES = {
    'ranking.json': (Ranking.load, RANKING, {
        'deep': (DEEP, 'nested too deeply'), 'null': ('null', 'is not a ranking file'),
        'factors': (dict(factors={'a': 1}), 'is damaged'),
        'alpha': (dict(factors={'a': [-1, 0]}), 'alpha must be positive'),
        'floors': (dict(floors=[1]), 'is damaged'),
        'huge': (dict(floors={'a': 'x'}), 'is damaged')}),
    'outcome.json': (load_outcome, OUTCOME, {
        'empty': ('', 'not a search outcome'), 'list': ('[]', 'not a search outcome'),
        'deep': (DEEP, 'nested too deeply'), 'version': (dict(version=9), 'version 9'),
        'rows': (changed(rows=3), 'is not a search outcome'),
        'row': (changed(rows=[dict(target=3)]), 'target of a row is a text'),
        'score': (changed(points=[dict(number=0, costs={}, score='x')]),
                  'score of a point is a number'),
        'costs': (changed(points=[dict(number=0, costs=[], score=1)]),
                  'costs of a point is a dict'),
        'target': (changed(targets=[dict(cost='macs', value='x', limit=1)]),
                   'value of a target is a number'),
        'best': (changed(best=['x']), 'best of'),
        'graph': (dict(graph={**GRAPH, 'macs': 'x'}), 'macs of'),
        'policies': (dict(policies={'a': {'widths': {'u': 'x'}}}), 'not a search'),
        'facts': (dict(facts=[]), 'facts of the outcome is a dict')}),
    'networks.json': (lambda path: load_networks(path.parent), {}, {
        'deep': (DEEP, 'nested too deeply'), 'list': ('[]', 'is damaged'),
        'entry': (dict(a=3), 'is damaged'), 'target': (dict(a={}), 'target of a'),
        'test': (dict(a=dict(target='t', test=3)), 'test of a'),
        'ms': (dict(a=dict(target='t', ms='x')), 'ms of a')}),
    'results.json': (
        lambda path: load_results(path.parent), dict(rows=[], metric='m', notes=[]), {
            'deep': (DEEP, 'nested too deeply'), 'list': ('[]', 'is damaged'),
            'row': (dict(rows=[3]), 'a row is a dict'),
            'metric': (dict(metric=3), 'metric of')}),
    'latency.json': (lambda path: LayerTimer(path), {}, {
        'empty': ('', 'is damaged'), 'deep': (DEEP, 'nested too deeply'),
        'list': ('[]', 'is damaged'), 'device': (dict(a=3), 'is damaged'),
        'text': (dict(a=dict(b='x')), 'is damaged'),
        'negative': (dict(a=dict(b=-1.0)), 'is damaged'),
        'nan': ('{"a": {"b": NaN}}', 'is damaged')}),
    'prices.json': (PriceTable.load, {}, {
        'deep': (DEEP, 'nested too deeply'), 'list': ('[]', 'not a readable price'),
        'null': ('null', 'not a readable price')}),
}
"""By file: who reads it, good data, and what is wrong with others."""

READS = [pytest.param(name, case, id=f'{name} {case}')
         for name, (_, _, cases) in JSON_FILES.items() for case in cases]


@pytest.mark.parametrize('name, case', READS)
def test_json_file(name: str, case: str, tmp_path: Path) -> None:
    read, good, cases = JSON_FILES[name]
    content, said = cases[case]
    path = written(tmp_path / name, content, good)
    found = sentence(read, path)
    assert said in found and name in found, found
    if name != 'prices.json':
        read(written(path, good))


def saved(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def zipped(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


ARRAYS = {
    'empty': b'', 'text': b'prices', 'cut': saved(np.ones(3))[:-9],
    'shape': saved(np.ones(4)), 'axes': saved(np.ones((3, 1))),
    'nan': saved(np.array([1, np.nan, 2])), 'words': saved(np.array(['a', 'b', 'c'])),
    'pickle': saved(np.array([{}, 1, 2], object), allow_pickle=True),
    'zip': zipped(a=np.ones(3)), 'cut zip': zipped(a=np.ones(3))[:-30],
    'huge': saved(np.ones(3)).replace(b'(3,)', b'(99999999999999,)'),
}


@pytest.mark.parametrize('case', ARRAYS)
def test_prices(case: str, tmp_path: Path) -> None:
    store = PriceStore(tmp_path, dict(a=1))
    (store.folder / 'dense.npy').write_bytes(ARRAYS[case])
    assert re.search(r'dense\.npy is damaged .*; delete it, and run',
                     sentence(store.get, 'dense', (3,)))
    store.put('dense', np.ones(3))
    assert store.get('dense', (3,)) is not None


HEADER = dict(format='mmcompress.predictor', version=1, type='GPPredictor',
              options={}, agreement=None)
PREDICTORS = {
    'empty': b'', 'text': b'predictor', 'no header': zipped(a=np.ones(3)),
    'deep': zipped(header=np.array(DEEP)), 'list': zipped(header=np.array('[]')),
    'no space': zipped(header=np.array(json.dumps(HEADER))),
    'type': zipped(header=np.array(json.dumps(dict(
        HEADER, type='Other', space='toy')))),
    'options': zipped(header=np.array(json.dumps(dict(
        HEADER, options=dict(iterations=-1), space='toy')))),
    'agreement': zipped(header=np.array(json.dumps(dict(
        HEADER, agreement=3, space='toy')))),
    'state': zipped(header=np.array(json.dumps(dict(HEADER, space='toy')))),
}


@pytest.mark.parametrize('case', PREDICTORS)
def test_predictor(case: str, tmp_path: Path, monkeypatch) -> None:
    path = written(tmp_path / 'p.npz', PREDICTORS[case])
    monkeypatch.setattr('mmcompress.searchers.predictors.base._plain', lambda _: 'toy')
    found = sentence(Predictor.load, path, toy_space())
    assert 'p.npz' in found


CHECKPOINTS = {
    'list': [1, 2], 'tensor': torch.ones(3), 'text': 'weights', 'number': 3,
    'none': None, 'list inside': dict(state_dict=[1]),
    'tensor inside': dict(state_dict=torch.ones(3)), 'numbers': {1: torch.ones(3)},
    'empty': {}, 'values': dict(weight='x', bias=[1]),
    'nothing': b'', 'words': b'not a checkpoint', 'zip': b'PK\x03\x04 and no more',
}


@pytest.mark.parametrize('case', CHECKPOINTS)
def test_checkpoint(case: str, tmp_path: Path) -> None:
    path, content = tmp_path / 'c.pth', CHECKPOINTS[case]
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(CompressionError, match=r'c\.pth'):
        load_weights(nn.Linear(2, 2), str(path))


def onnx_file(path: Path, **facts: Any) -> Path:
    """A file without nodes, with metadata."""
    x = ir.val('x', ir.DataType.FLOAT, [1])
    graph = ir.Graph([x], [x], nodes=[], opset_imports={'': 21})
    model = ir.Model(graph, ir_version=10)
    model.metadata_props.update(facts)
    ir.save(model, path)
    return path


GOOD_FACTS = dict(
    format='"mmcompress.onnx"', model='"M"', part='""', structure='0',
    shape='[3, 8, 8]', batch='1')
FILES = {
    'none': ({}, 'was not written by'), 'format': (dict(format='{'), 'is damaged'),
    'other': (dict(format='"x"'), 'was not written by'),
    'deep': (dict(GOOD_FACTS, structure=DEEP), 'is damaged'),
    'shape': (dict(GOOD_FACTS, shape='"x"'), 'shape of'),
    'batch': (dict(GOOD_FACTS, batch='-1'), 'batch of'),
    'structure': (dict(GOOD_FACTS, structure='"x"'), 'structure'),
    'model': (dict(GOOD_FACTS, model='3'), 'model of'),
    'missing': ({k: v for k, v in GOOD_FACTS.items() if k != 'shape'}, 'shape'),
}


@pytest.mark.parametrize('case', FILES)
def test_onnx_metadata(case: str, tmp_path: Path) -> None:
    facts, said = FILES[case]
    found = sentence(read_metadata, onnx_file(tmp_path / 'n.onnx', **facts))
    assert said in found and 'n.onnx' in found, found
    read_metadata(onnx_file(tmp_path / 'n.onnx', **GOOD_FACTS))


@pytest.mark.parametrize('content', [b'', b'not ONNX at all', b'\x08\x0a\x12', DEEP])
def test_onnx_file(content, tmp_path: Path) -> None:
    path = written(tmp_path / 'n.onnx', content)
    assert 'n.onnx' in sentence(read_metadata, path)
    assert 'n.onnx' in sentence(load_runtime, 'onnxruntime', path)


# -- Python ------------------------------------------------------------------------
IMAGE, RUNNER = torch.zeros(1, 3, 8, 8), Mock(Runner)
VERBS = {
    'images': (dict(images=0), 'images of prepare'),
    'negative images': (dict(images=-5), 'images of prepare'),
    'rule': (dict(rule='most'), 'rule of prepare'),
    'dynamic_bn': (dict(dynamic_bn='on'), 'dynamic_bn of prepare'),
    'seed': (dict(seed=-1), 'seed of prepare'),
    'channel': (dict(channel=3), 'channel of prepare'),
    'divisor': (dict(channel=dict(divisor=-8)), 'divisor of the mutator'),
    'quant': (dict(quant=dict(observer='kl')), 'observer of the mutator'),
    'mutator': (dict(mine=dict(type='Nobody')), "no mutator 'Nobody'"),
    'score': (dict(score=3, score_name='s'), 'score of prepare'),
    'calibration': (dict(calibration=3), 'calibration of prepare'),
    'model': (dict(model='resnet'), 'model of prepare'),
}


@pytest.mark.parametrize('case', VERBS)
def test_prepare(case: str) -> None:
    options, said = VERBS[case]
    model = options.pop('model', nn.Conv2d(3, 4, 1)) if 'model' in options else \
        nn.Conv2d(3, 4, 1)
    assert said in sentence(lambda: mmc.prepare(model, IMAGE, **options))


@pytest.mark.parametrize('call, said', [
    (lambda: mmc.export(nn.ReLU(), 'x.onnx', 8), 'shape of export'),
    (lambda: mmc.export(nn.ReLU(), 'x.onnx', (3, 0, 8)), 'shape of export'),
    (lambda: mmc.export(nn.ReLU(), 'x.onnx', (3, 8, 8), images=-5), 'images of export'),
    (lambda: mmc.export(nn.ReLU(), 'x.onnx', (3, 8, 8), batch=0), 'batch of the exp'),
    (lambda: mmc.export(nn.ReLU(), 'x.onnx', (3, 8, 8), tolerance=-1), 'tolerance of'),
    (lambda: mmc.reconstruct(nn.ReLU(), 'nowhere.json', [IMAGE]), 'no policy file'),
    (lambda: mmc.reconstruct(nn.ReLU(), 3, [IMAGE]), 'policy of reconstruct'),
    (lambda: mmc.reconstruct(nn.ReLU(), 'x', [IMAGE], limit=0), 'limit of reconstruct'),
    (lambda: mmc.load('nowhere', nn.ReLU()), 'No search outcome'),
    (lambda: mmc.load(3, nn.ReLU()), 'work_dir of load'),
    (lambda: CalibrationHook(images=-1), 'images of CalibrationHook'),
    (lambda: CalibrationHook(batch_size=0), 'batch_size of CalibrationHook'),
    (lambda: CalibrationHook(observer='kl'), 'observer of CalibrationHook'),
    (lambda: SearchLoggerHook(interval=0), 'interval of SearchLoggerHook'),
    (lambda: SupernetTrainLoop(RUNNER, {}, random=-1), 'random of SupernetTraining'),
    (lambda: SupernetTrainLoop(RUNNER, {}, weight=-1), 'weight of SupernetTraining'),
    (lambda: SupernetTrainLoop(RUNNER, {}, temperature=0), 'temperature of Supernet'),
    (lambda: SupernetTrainLoop(RUNNER, {}, sort='l3'), 'sort of SupernetTraining'),
    (lambda: SupernetTrainLoop(RUNNER, {}, full='no'), 'full of SupernetTraining'),
])
def test_call(call, said: str) -> None:
    assert said in sentence(call)


def test_the_table_is_large_and_no_option_fills_it() -> None:
    assert len(ROWS) + len(CALLS) + len(POLICIES) + len(READS) >= 250
    options = Counter((row.values[0], row.values[1], row.values[2]) for row in ROWS)
    options += Counter((row.values[0], row.values[1]) for row in CALLS)
    assert max(options.values()) <= 3
