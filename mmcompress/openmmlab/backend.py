"""Exported files inside OpenMMLab's own pipelines."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn.functional import pad

from ..errors import ExportError
from ..exporter.metadata import read_metadata
from ..exporter.parts import nest, part_path
from ..exporter.runtimes import Runtime, load_runtime
from ..kinds import kind_of


class FileNetwork:
    """An exported file that takes and returns tensors.

    Images go through in the batches that the file was made for, and smaller images
    are padded as the data preprocessor pads those of a batch.

    Args:
        path (str | os.PathLike): The file.
        backend (str): Name of the runtime.
        threads (int | None): Threads of the runtime. Defaults to its own choice.
        padding (float): Value beside smaller images. Defaults to 0.

    Raises:
        ExportError: The file or the runtime is missing.
    """

    def __init__(
        self, path: str | os.PathLike, backend: str, threads: int | None = None,
        padding: float = 0.0,
    ) -> None:
        self.path, self.padding = path, padding
        self.facts = read_metadata(path)
        self.runtime: Runtime = load_runtime(backend, path, threads)

    def __call__(self, inputs: Tensor) -> Any:
        """Outputs of a batch in the nesting that the model has them in.

        Args:
            inputs (Tensor): ``(N, ...)``.
        """
        if not self.facts['part']:
            inputs = self._padded(inputs)
        size = self.facts['batch'] or len(inputs)
        if self.facts.get('boxes'):
            return torch.from_numpy(self.runtime(inputs.cpu().numpy())[0])
        chunks = [self._run(chunk, size) for chunk in inputs.split(size)]
        whole = [torch.cat(tensors) for tensors in zip(*chunks)]
        return nest(self.facts['structure'], [x.to(inputs.device) for x in whole])

    def __deepcopy__(self, memo: dict) -> FileNetwork:
        """The same: runtimes cannot be copied, hooks such as EMA copy models."""
        return self

    def _run(self, chunk: Tensor, size: int) -> list[Tensor]:
        count = len(chunk)
        array = chunk.cpu().numpy().astype(np.float32)
        if count < size:
            rest = np.zeros((size - count, *array.shape[1:]), np.float32)
            array = np.concatenate([array, rest])
        return [torch.from_numpy(out[:count]) for out in self.runtime(array)]

    def _padded(self, images: Tensor) -> Tensor:
        _, height, width = self.facts['shape']
        down, right = height - images.shape[2], width - images.shape[3]
        if down < 0 or right < 0:
            raise ExportError(
                f'An image of {images.shape[2]} x {images.shape[3]} does not fit into '
                f'{self.path}, which takes {height} x {width}; export with --shape.')
        return pad(images, (0, right, 0, down), value=self.padding)


class BoxPredictor:
    """``predict`` of a detector whose file finds the boxes itself.

    Args:
        model (nn.Module): The detector.
        network (FileNetwork): Its file.
    """

    def __init__(self, model: nn.Module, network: FileNetwork) -> None:
        self.model, self.network = model, network

    def __call__(self, images: Tensor, samples: list, rescale: bool = True) -> list:
        """Samples with boxes; in the pixels of the original image if ``rescale``."""
        results = []
        for image, sample in zip(images.split(1), samples):
            found = self.network(image)
            boxes = found[:, :4]
            if self.network.facts['boxes']['clipped']:  # to the file's shape so far
                height, width = sample.img_shape[:2]
                boxes = torch.minimum(
                    boxes, boxes.new_tensor([width, height, width, height]))
            if rescale:
                boxes = boxes / boxes.new_tensor(sample.scale_factor).repeat(1, 2)
            results.append(InstanceData(
                bboxes=boxes, scores=found[:, 4], labels=found[:, 5].long()))
        return self.model.add_pred_to_datasample(samples, results)


def attach(
    model: nn.Module, path: str | os.PathLike, backend: str,
    threads: int | None = None,
) -> nn.Module:
    """Let a file compute what a model's network would.

    The model's data preprocessor and post-processing stay, so that every tool and
    metric works on the file.

    Args:
        model (nn.Module): Built from the config that the file was exported from; its
            weights do not matter.
        path (str | os.PathLike): The exported file.
        backend (str): Name of the runtime.
        threads (int | None): Threads of the runtime.

    Returns:
        nn.Module: ``model``.

    Raises:
        ExportError: The file belongs to another kind of model.
    """
    normalisation = kind_of(model).normalisation(model)
    network = FileNetwork(
        path, backend, threads, normalisation.padding if normalisation else 0.0)
    if network.facts['model'] != type(model).__name__:
        raise ExportError(
            f'{path} is a {network.facts["model"]}, the config describes a '
            f'{type(model).__name__}.')
    if network.facts.get('boxes'):
        model.predict = BoxPredictor(model, network)
        return model
    kind_of(model).attach(
        model, network,
        lambda name: FileNetwork(part_path(path, name), backend, threads))
    return model
