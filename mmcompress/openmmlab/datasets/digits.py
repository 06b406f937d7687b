"""A small real detection set that needs no download: handwritten digits in scenes.

scikit-learn ships 1,797 digits that 43 people wrote. They are pasted, enlarged, into
grey scenes. Every digit belongs to one split, so that no drawing that is trained on
is ever tested on.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np

from mmcompress.errors import DataError

CLASSES = tuple('0123456789')
INK = 0.3  # the least share of full ink that counts as part of a digit
SPLITS = ('train', 'calibration', 'val')
_FORMAT = 2  # increase when the same options begin to give other files


@dataclass(frozen=True, eq=False)
class Digit:
    """A digit in a scene.

    Args:
        box (tuple[int, int, int, int]): ``(x, y, width, height)`` of its ink in pixels.
        ink (np.ndarray): Which pixels of the box are ink, bool, ``(height, width)``.
        label (int): Which digit it is.
    """

    box: tuple[int, int, int, int]
    ink: np.ndarray
    label: int

    def annotation(self, number: int, image: int, size: int) -> dict:
        """Its entry in COCO's format, with its mask in run lengths.

        Args:
            number (int): Of the annotation.
            image (int): Of the scene.
            size (int): Height and width of the scene.
        """
        from pycocotools import mask as masks  # classifiers need none

        x, y, w, h = self.box
        mask = np.zeros((size, size), np.uint8, order='F')
        mask[y:y + h, x:x + w] = self.ink
        lengths = masks.encode(mask)
        return dict(
            id=number, image_id=image, category_id=self.label + 1, iscrowd=0,
            bbox=[x, y, w, h], area=int(self.ink.sum()),
            segmentation=dict(lengths, counts=lengths['counts'].decode()))


@dataclass(frozen=True)
class DigitsOptions:
    """What :func:`make_digits` makes.

    Args:
        images (dict[str, int]): Scenes of each split.
        shares (dict[str, float]): Share of the written digits in each split.
        size (int): Height and width of a scene in pixels. Defaults to 128.
        digits (tuple[int, int]): Fewest and most digits in a scene.
        heights (tuple[int, int]): Smallest and largest height in pixels that the
            8x8 drawing of a digit is enlarged to; its ink is a little smaller.
        contrast (tuple[int, int]): Smallest and largest distance in grey values
            between ink and background.
        seed (int): Seed of everything random. Defaults to 0.
    """

    images: dict[str, int] = field(
        default_factory=lambda: dict(train=640, calibration=192, val=128))
    shares: dict[str, float] = field(
        default_factory=lambda: dict(train=0.7, calibration=0.1, val=0.2))
    size: int = 128
    digits: tuple[int, int] = (3, 6)
    heights: tuple[int, int] = (20, 56)
    contrast: tuple[int, int] = (60, 140)
    seed: int = 0

    def __post_init__(self) -> None:
        if set(self.images) != set(SPLITS) or set(self.shares) != set(SPLITS):
            raise ValueError(f'images and shares need exactly the splits {SPLITS}')
        if min(self.shares.values()) <= 0 or sum(self.shares.values()) > 1 + 1e-9:
            raise ValueError('shares must be positive and sum to 1 at most')
        if self.heights[1] > self.size:
            raise ValueError(f'digits of {self.heights[1]} px exceed the scene')


def make_digits(folder: str | Path, options: DigitsOptions | None = None) -> Path:
    """Write scenes of handwritten digits as PNGs with COCO annotations, masks too.

    The folder appears complete or not at all. A second call with the same options
    returns at once.

    Args:
        folder (str | Path): Where to write ``<split>/*.png`` and
            ``annotations/<split>.json``. An earlier set made with other options is
            replaced; a folder that holds anything else is an error.
        options (DigitsOptions, optional): Sizes, numbers, seed.

    Returns:
        Path: The folder.
    """
    folder, options = Path(folder), options or DigitsOptions()
    stamp = _stamp(options)
    if folder.exists():
        if not (folder / 'options.json').is_file():
            raise DataError(
                f'{folder} exists and is no digits set; name another folder')
        if _read_stamp(folder) == stamp:
            return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f'.{folder.name}.'))
    try:
        draft.chmod(0o755)  # mkdtemp lets nobody else read
        drawings = _split_drawings(options)
        (draft / 'annotations').mkdir()
        for split in SPLITS:
            _write_split(draft, split, drawings[split], options)
        (draft / 'options.json').write_text(json.dumps(stamp))
        _swap_in(draft, folder, stamp)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _stamp(options: DigitsOptions) -> dict:
    """What decides the content, as JSON gives it back."""
    return json.loads(json.dumps(dict(format=_FORMAT, **asdict(options))))


def _read_stamp(folder: Path) -> dict:
    """What an existing set was made from."""
    return json.loads((folder / 'options.json').read_text())


def _swap_in(draft: Path, folder: Path, stamp: dict) -> None:
    """Rename the draft; another process may have made the same set meanwhile."""
    if folder.exists():
        if _read_stamp(folder) == stamp:
            return
        old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f'.{folder.name}.'))
        os.replace(folder, old)
        shutil.rmtree(old)
    try:
        os.replace(draft, folder)
    except OSError:
        if _read_stamp(folder) != stamp:
            raise


def _split_drawings(options: DigitsOptions) -> dict[str, list[tuple[np.ndarray, int]]]:
    """Give every split its own drawings, each class in proportion."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = bunch.images.astype(np.float32) / 16
    rng = np.random.default_rng([options.seed, len(SPLITS)])
    result: dict[str, list[tuple[np.ndarray, int]]] = {s: [] for s in SPLITS}
    for label in range(len(CLASSES)):
        own = rng.permutation(np.flatnonzero(bunch.target == label))
        ends = np.cumsum([options.shares[s] for s in SPLITS]) * len(own)
        begin = 0
        for split, end in zip(SPLITS, ends.round().astype(int)):
            result[split] += [(images[i], label) for i in own[begin:end]]
            begin = end
    return result


def _write_split(
    folder: Path, split: str, drawings: list, options: DigitsOptions
) -> None:
    """Write the images and the annotation file of one split."""
    (folder / split).mkdir()
    # A generator for each split: adding training scenes does not change the others.
    rng = np.random.default_rng([options.seed, SPLITS.index(split)])
    images, annotations = [], []
    for number, (scene, digits) in enumerate(
            _scenes(drawings, options.images[split], options, rng), 1):
        name = f'{number:05d}.png'
        if not cv2.imwrite(str(folder / split / name), scene):
            raise OSError(f'cannot write {folder / split / name}')
        images.append(dict(
            id=number, file_name=name, height=options.size, width=options.size))
        for digit in digits:
            annotations.append(
                digit.annotation(len(annotations) + 1, number, options.size))
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES, 1)]
    (folder / 'annotations' / f'{split}.json').write_text(json.dumps(
        dict(images=images, annotations=annotations, categories=categories)))


def _scenes(
    drawings: list, count: int, options: DigitsOptions, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, list[Digit]]]:
    """Yield ``count`` pairs of a scene and its digits."""
    for _ in range(count):
        background = _background(options.size, rng)
        scene, digits = background.copy(), []
        for _ in range(rng.integers(options.digits[0], options.digits[1] + 1)):
            drawing, label = drawings[rng.integers(len(drawings))]
            pasted = _paste(scene, drawing, [d.box for d in digits], options, rng)
            if pasted is not None:
                digits.append(Digit(*pasted, label))
        scene += rng.normal(0, 4, scene.shape).astype(np.float32)
        grey = scene.clip(0, 255).round().astype(np.uint8)
        yield cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), digits


def _background(size: int, rng: np.random.Generator) -> np.ndarray:
    """A soft, uneven grey."""
    coarse = rng.uniform(-25, 25, (3, 3)).astype(np.float32) + rng.uniform(60, 195)
    return cv2.resize(
        coarse.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)


def _paste(
    scene: np.ndarray, drawing: np.ndarray, others: list,
    options: DigitsOptions, rng: np.random.Generator,
) -> tuple[tuple[int, int, int, int], np.ndarray] | None:
    """Paste an enlarged drawing where it hides no other; return its box and ink."""
    low, high = options.heights
    # Uniform in the logarithm: small and large digits are equally common.
    height = round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))
    width = min(round(height * rng.uniform(0.8, 1.2)), options.size)
    ink = cv2.resize(drawing, (width, height), interpolation=cv2.INTER_LINEAR)
    rows, columns = (np.flatnonzero((ink > INK).any(axis)) for axis in (1, 0))
    ink = ink[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
    h, w = ink.shape
    for _ in range(20):
        x = int(rng.integers(options.size - w + 1))
        y = int(rng.integers(options.size - h + 1))
        if not any(x < a + c and a < x + w and y < b + d and b < y + h
                   for a, b, c, d in others):
            break
    else:
        return None
    patch = scene[y:y + h, x:x + w]
    # Towards the farther end of the grey scale, where the contrast always fits.
    sign = 1 if patch.mean() < 128 else -1
    patch += sign * rng.uniform(*options.contrast) * ink
    return (x, y, w, h), ink > INK
