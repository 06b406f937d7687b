"""What the benchmarks share: networks, resumable results, the machine's name."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import nn

import mmcompress  # noqa: F401  (must precede mmdet and mmpretrain)
from mmcompress.data.images import Batch
from mmcompress.files import write_text
from mmcompress.kinds import kind_of
from mmcompress.layers.quantised import quantised_layers
from mmcompress.mutators.rebuild import quantise
from mmcompress.openmmlab.cli import load_weights
from mmcompress.openmmlab.models.compressed import with_preprocessor
from mmcompress.policy import Bits, ModelGraph, Policy
from mmcompress.quant.calibration import calibrate

ROOT = Path(__file__).resolve().parents[1]
OUT = Path('work_dirs/benchmarks')


@dataclass(frozen=True)
class Network:
    """A network to measure.

    Args:
        name (str): As tables show it.
        config (str): A file below the repository's root, or ``package::file``.
        shape (tuple[int, int, int]): ``(C, H, W)`` that costs refer to.
    """

    name: str
    config: str
    shape: tuple[int, int, int]

    def read(self) -> Config:
        """The config; its scope becomes the default one."""
        cfg = (get_config(self.config) if '::' in self.config
               else Config.fromfile(ROOT / self.config))
        init_default_scope(cfg.get('default_scope', 'mmengine'))
        return cfg

    def build(self) -> nn.Module:
        """The model, with the weights of ``load_from`` if they are on this disk.

        Otherwise it keeps its layers' default initialisation: ``init_weights`` would
        download the backbone's.
        """
        cfg = self.read()
        torch.manual_seed(0)
        model = MODELS.build(with_preprocessor(cfg.model, cfg.get('data_preprocessor')))
        if cfg.get('load_from') and os.path.isfile(cfg.load_from):
            load_weights(model, cfg.load_from)
        return model.eval()


NETWORKS = {network.name: network for network in (
    Network('CifarResNet-20', 'configs/cifar/resnet20_cifar10.py', (3, 32, 32)),
    Network('CifarResNet-56', 'configs/cifar/resnet56_cifar10.py', (3, 32, 32)),
    Network('ResNet-18', 'mmpretrain::resnet/resnet18_8xb32_in1k.py', (3, 224, 224)),
    Network('ResNet-50', 'mmpretrain::resnet/resnet50_8xb32_in1k.py', (3, 224, 224)),
    Network('MobileNetV2', 'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py',
            (3, 224, 224)),
    Network('YOLOX-nano', 'configs/yolox/yolox_nano_coco128.py', (3, 416, 416)),
    Network('RTMDet-tiny', 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
            (3, 640, 640)),
    Network('RetinaNet-R50', 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
            (3, 800, 1344)),
    Network('Faster R-CNN R50', 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
            (3, 800, 1344)),
)}


def put_in_integers(model: nn.Module, graph: ModelGraph) -> list[np.ndarray]:
    """Put all layers at W8A8, with ranges of one random image; only time matters.

    Args:
        model (nn.Module): Changed in place; may be slim.
        graph (ModelGraph): Of the dense model.

    Returns:
        list[np.ndarray]: The image, for the export.
    """
    kind = kind_of(model)
    image = kind.images(model, graph.input_shape, 1)
    samples = kind.example(model, graph.input_shape).data_samples
    layers = {x.name: Bits(8, 8) for x in graph.layers}
    quantise(model, Policy(bits=layers), graph.trace_shape)
    calibrate(model, quantised_layers(model), [Batch(image, samples)])
    return [image.numpy()]


def quiet_config(path: str, work_dir: Path) -> Config:
    """A config of the repository, for one process that says little."""
    cfg = Config.fromfile(ROOT / path)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    cfg.work_dir, cfg.launcher, cfg.log_level = str(work_dir), 'none', 'WARNING'
    # mmengine keeps loggers and counters by this name for the whole process.
    cfg.experiment_name = '_'.join(work_dir.parts)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[name].update(num_workers=0, persistent_workers=False)
    return cfg


def train_and_test(cfg: Config, epochs: int) -> dict[str, float]:
    """Metrics on the test images after the training that a config describes."""
    cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs + 1)
    cfg.experiment_name += '_train'
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner.test()


class Results:
    """Numbers in a JSON file; what is there is not measured again.

    Args:
        path (Path): The file.
        settings (dict): What the numbers depend on; others start a new file.
    """

    def __init__(self, path: Path, settings: dict) -> None:
        self.path = path
        self.settings = json.loads(json.dumps(settings))

    @property
    def values(self) -> dict[str, Any]:
        """What is stored; another process may have added to it."""
        found = json.loads(self.path.read_text()) if self.path.is_file() else {}
        return found['values'] if found.get('settings') == self.settings else {}

    def get(self, key: str, measure: Callable[[], Any]) -> Any:
        """The value of ``key``, measured and stored if it is not there yet."""
        if key not in self.values:
            value = measure()
            write_text(self.path, json.dumps(
                dict(settings=self.settings, values={**self.values, key: value}),
                indent=1))
        return self.values[key]


def machine() -> str:
    """One line on what ran the benchmark."""
    device = (torch.cuda.get_device_name() if torch.cuda.is_available()
              else f'CPU, {torch.get_num_threads()} threads of {os.cpu_count()} cores')
    return f'Python {platform.python_version()}, torch {torch.__version__}, {device}'
