"""Quantising small models and writing their files."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from mmcompress.exporter.export import Exported, ExportOptions, export_onnx
from mmcompress.exporter.quantise.ranges import point_of_range
from mmcompress.layers.quantised import quantised_layers
from mmcompress.policy import Bits
from mmcompress.surgery.quantise import make_quantisable


def quantise(model: nn.Module, run, bits: Bits, skip: tuple[str, ...] = ()) -> list:
    """Put every layer at some bits, with the ranges of one forward."""
    names = [n for n, m in model.named_modules()
             if isinstance(m, (nn.Conv2d, nn.Linear)) and n not in skip]
    make_quantisable(model, names)
    layers = quantised_layers(model)
    ranges = {}

    def hook(layer, args):
        ranges[layer] = float(args[0].min()), float(args[0].max())

    handles = [layer.register_forward_pre_hook(hook) for layer in layers.values()]
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    for layer in layers.values():
        layer.set_bits(bits)
        top = layer.weight_quantizer.quant_max
        layer.weight_quantizer.assign(layer.weight_rows().abs().amax(1) / top)
        point = point_of_range(*ranges[layer], bits.activation)
        layer.input_quantizer.assign(point.scale, float(point.zero_point))
    return names


def random_images(size: int, count: int) -> list[np.ndarray]:
    """Preprocessed images, seeded."""
    return [np.random.default_rng(i).standard_normal((1, 3, size, size)).astype('f')
            for i in range(count)]


def export_w8a8(
    model: nn.Module, images: list[np.ndarray], folder, skip: tuple[str, ...] = ()
) -> tuple[list[str], Exported]:
    """Quantise at W8A8 and export; the layers in 8 bits and the file."""
    names = quantise(
        model, lambda: model(torch.from_numpy(images[0])), Bits(8, 8), skip)
    [file] = export_onnx(
        model, folder / 'net.onnx',
        ExportOptions(images[0].shape[1:], images=images, layout=True))
    return names, file
