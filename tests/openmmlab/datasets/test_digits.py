"""The digits set is deterministic, complete or absent, and leaks nothing."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import CocoDataset
from mmdet.datasets.transforms import LoadAnnotations
from pycocotools import mask as masks

from mmcompress.errors import DataError
from mmcompress.openmmlab.datasets import DigitsOptions, make_digits
from mmcompress.openmmlab.datasets import digits as module

SMALL = DigitsOptions(images=dict(train=6, calibration=3, val=4), size=96)


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(p.relative_to(folder)): p.read_bytes()
            for p in sorted(folder.rglob('*')) if p.is_file()}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return make_digits(tmp_path_factory.mktemp('digits') / 'set', SMALL)


def test_mmdet_reads_every_split(folder):
    for split, count in SMALL.images.items():
        dataset = CocoDataset(
            data_root=str(folder), ann_file=f'annotations/{split}.json',
            data_prefix=dict(img=f'{split}/'), metainfo=dict(classes=module.CLASSES),
            pipeline=[])
        assert len(dataset) == count
        for i in range(count):
            info = dataset.get_data_info(i)
            assert cv2.imread(info['img_path']).shape == (96, 96, 3)
            assert 1 <= len(info['instances']) <= SMALL.digits[1]
            for instance in info['instances']:
                x0, y0, x1, y1 = instance['bbox']
                assert 0 <= x0 < x1 <= 96 and 0 <= y0 < y1 <= 96


def test_boxes_do_not_overlap_and_are_tight(folder):
    options = replace(SMALL, contrast=(100, 100))
    drawings = module._split_drawings(options)['val']
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scene, boxes, inks = np.full((96, 96), 50, np.float32), [], []
        for drawing, _ in drawings[:4]:
            pasted = module._paste(scene, drawing, boxes, options, rng)
            if pasted is not None:
                boxes.append(pasted[0])
                inks.append(pasted[1])
        covered = np.zeros((96, 96), int)
        for (x, y, w, h), mask in zip(boxes, inks):
            covered[y:y + h, x:x + w] += 1
            ink = scene[y:y + h, x:x + w] - 50 > 30  # 0.3 of the contrast of 100
            np.testing.assert_array_equal(mask, ink)
            assert ink[0].any() and ink[-1].any()
            assert ink[:, 0].any() and ink[:, -1].any()
        assert covered.max() == 1
        assert not (scene != 50)[covered == 0].any()


def test_masks_are_the_ink_in_its_place():
    # 2 x 3 pixels of ink but for one, at column 1 and row 2 of 6 x 6.
    ink = np.array([[1, 1, 1], [1, 0, 1]], bool)
    found = module.Digit((1, 2, 3, 2), ink, label=7).annotation(5, 9, size=6)
    assert (found['id'], found['image_id'], found['category_id']) == (5, 9, 8)
    assert (found['bbox'], found['area']) == ([1, 2, 3, 2], 5)
    mask = masks.decode(found['segmentation'])
    assert np.argwhere(mask).tolist() == [[2, 1], [2, 2], [2, 3], [3, 1], [3, 3]]


def test_mmdet_reads_masks(folder):
    dataset = CocoDataset(
        data_root=str(folder), ann_file='annotations/val.json',
        data_prefix=dict(img='val/'), metainfo=dict(classes=module.CLASSES),
        pipeline=[LoadImageFromFile(), LoadAnnotations(with_mask=True)])
    for item in dataset:
        for (x0, y0, x1, y1), mask in zip(
                item['gt_bboxes'].numpy().astype(int), item['gt_masks'].masks):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert (columns[0], rows[0], columns[-1], rows[-1]) == (
                x0, y0, x1 - 1, y1 - 1)


def test_splits_share_no_drawing():
    drawings = module._split_drawings(DigitsOptions())
    ids = {s: {d.tobytes() for d, _ in own} for s, own in drawings.items()}
    assert not ids['train'] & ids['val']
    assert not ids['train'] & ids['calibration']
    assert not ids['calibration'] & ids['val']
    assert sum(map(len, drawings.values())) == 1797
    assert all({label for _, label in own} == set(range(10))
               for own in drawings.values())


def test_same_seed_same_bytes(folder, tmp_path):
    assert content(make_digits(tmp_path / 'again', SMALL)) == content(folder)
    other = content(make_digits(tmp_path / 'other', replace(SMALL, seed=1)))
    assert other['val/00001.png'] != content(folder)['val/00001.png']


def test_more_training_scenes_leave_the_others(folder, tmp_path):
    images = dict(SMALL.images, train=8)
    more = content(make_digits(tmp_path / 'more', replace(SMALL, images=images)))
    same = content(folder)
    assert more['annotations/val.json'] == same['annotations/val.json']
    assert more['train/00006.png'] == same['train/00006.png']


def test_second_call_does_nothing_new_options_replace(tmp_path):
    folder = make_digits(tmp_path / 'set', SMALL)
    before = (folder / 'val/00001.png').stat().st_mtime_ns
    make_digits(folder, SMALL)
    assert (folder / 'val/00001.png').stat().st_mtime_ns == before
    make_digits(folder, replace(SMALL, images=dict(train=1, calibration=1, val=1)))
    assert len(list((folder / 'train').iterdir())) == 1
    assert [p.name for p in tmp_path.iterdir()] == ['set']


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, 'imwrite', lambda *_: False)
    with pytest.raises(OSError, match='cannot write'):
        make_digits(tmp_path / 'set', SMALL)
    assert not list(tmp_path.iterdir())


def test_a_foreign_folder_is_kept(tmp_path):
    (tmp_path / 'mine.txt').write_text('precious')
    with pytest.raises(DataError, match='is no digits set'):
        make_digits(tmp_path, SMALL)
    assert (tmp_path / 'mine.txt').read_text() == 'precious'


@pytest.mark.parametrize('change, message', [
    (dict(images=dict(train=1)), 'exactly the splits'),
    (dict(shares=dict(train=0.9, calibration=0.1, val=0.1)), 'sum to 1'),
    (dict(heights=(20, 200)), 'exceed the scene'),
])
def test_bad_options(change, message):
    with pytest.raises(ValueError, match=message):
        replace(DigitsOptions(), **change)


def test_demo_config_reads_the_set(repo, tmp_path, folder):
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from mmcompress.registry import DATASETS

    config = Config.fromfile(repo / 'configs/demo/digits_detector.py')
    init_default_scope(config.default_scope)
    dataset = dict(config.train_dataloader.dataset, data_root=str(folder))
    sample = DATASETS.build(dataset)[0]
    assert json.loads((folder / 'annotations/train.json').read_text())['categories']
    assert sample['inputs'].shape == (3, 96, 96)
