"""The size that costs refer to, from a config."""

import pytest
from mmengine.config import Config

from mmcompress.errors import TraceError
from mmcompress.openmmlab.input_shape import input_shape_of


def config(*steps: dict, divisor: int | None = None, **extra) -> Config:
    preprocessor = dict(pad_size_divisor=divisor) if divisor else {}
    return Config(dict(
        model=dict(data_preprocessor=preprocessor),
        test_dataloader=dict(dataset=dict(type='X', pipeline=list(steps))), **extra))


@pytest.mark.parametrize('steps, divisor, shape', [
    # mmdet writes scales as (width, height).
    ([dict(type='Resize', scale=(1333, 800), keep_ratio=True)], None, (3, 800, 1333)),
    # 1333 goes up to 42 * 32.
    ([dict(type='Resize', scale=(1333, 800))], 32, (3, 800, 1344)),
    ([dict(type='mmdet.Resize', scale=(64, 32)), dict(type='Pad', size=(96, 80))],
     None, (3, 80, 96)),
    # A crop decides after a resize of one edge.
    ([dict(type='ResizeEdge', scale=256), dict(type='CenterCrop', crop_size=224)],
     None, (3, 224, 224)),
])
def test_pipeline(steps, divisor, shape):
    assert input_shape_of(config(*steps, divisor=divisor)) == shape


def test_the_users_word_goes_first():
    given = config(dict(type='Resize', scale=(64, 64)),
                   compression=dict(input_shape=[1, 32, 48]))
    assert input_shape_of(given) == (1, 32, 48)


def test_wrapped_datasets():
    inner = config(dict(type='Resize', scale=(64, 32)))
    inner.test_dataloader.dataset = dict(
        type='RepeatDataset', dataset=inner.test_dataloader.dataset)
    assert input_shape_of(inner) == (3, 32, 64)


@pytest.mark.parametrize('bad, message', [
    (config(dict(type='PackInputs')), r'does not fix an image size; set compression'),
    (config(dict(type='ResizeEdge', scale=256)), 'does not fix an image size'),
    (Config(dict()), 'does not fix an image size'),
    (config(compression=dict(input_shape=(32, 32))), r'\(C, H, W\); got \(32, 32\)'),
])
def test_bad(bad, message):
    with pytest.raises(TraceError, match=message):
        input_shape_of(bad)
