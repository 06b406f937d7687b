"""Calibrates a quantised model that was loaded from a float checkpoint."""

from __future__ import annotations

from typing import Literal

import torch
from mmengine.dist import broadcast
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from ...arithmetic.ranges import OBSERVERS, Symmetric
from ...data.images import pick
from ...layers.quantised import quantised_layers, uncalibrated
from ...options import Count, checking
from ...quant.calibration import calibrate
from ...registry import HOOKS
from ...surgery.modes import evaluating
from ..images import build_dataset, load_batches, search_dataset


@HOOKS.register_module()
class CalibrationHook(Hook):
    """Finds the scales that the checkpoint lacks, before the first iteration.

    A checkpoint of the quantised network brings its scales; one of the dense float
    network does not. The images are training images under the test pipeline.
    ``tools/train.py --policy`` adds this hook where the policy has bits.

    Args:
        images (int): Number of calibration images. Defaults to 64.
        batch_size (int): Images at a time. Defaults to 16.
        observer (str): See :data:`mmcompress.arithmetic.ranges.OBSERVERS`. Defaults to
            'mse'.
        symmetric (bool | str): See :func:`.activation_range`. Defaults to False.
    """

    priority = 'VERY_HIGH'

    @checking
    def __init__(
        self, images: Count = 64, batch_size: Count = 16,
        observer: Literal[OBSERVERS] = 'mse',
        symmetric: Symmetric = False,
    ) -> None:
        self.images, self.batch_size = images, batch_size
        self.observer, self.symmetric = observer, symmetric

    def before_train(self, runner: Runner) -> None:
        """Calibrate what is not calibrated; the same on every rank."""
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        missing = uncalibrated(model)
        if not missing:
            return
        dataset = build_dataset(search_dataset(runner.cfg))
        numbers, = pick(
            len(dataset), [min(self.images, len(dataset))], runner.seed or 0)
        batches = load_batches(
            dataset, numbers, model.data_preprocessor, self.batch_size)
        layers = {n: m for n, m in quantised_layers(model).items() if n in missing}
        with evaluating(model), torch.random.fork_rng():
            calibrate(model, layers, batches, self.observer, self.symmetric)
        for layer in layers.values():
            for quantizer in (layer.weight_quantizer, layer.input_quantizer):
                for parameter in quantizer.parameters():
                    broadcast(parameter.data)
        runner.logger.info(
            f'Calibrated {len(missing)} quantised layers on {len(numbers)} training '
            f'images ({self.observer}).')
