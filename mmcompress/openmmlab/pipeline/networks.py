"""The stages of one network: tuned, exported, tested."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...exporter.eight_bits import EightBits
from ...exporter.quantise.float_layers import Progress
from ...exporter.quantise.runtime_rules import ONNX_RUNTIME
from ...files import write_text
from ...plain import digest
from ...policy.files import PolicyFile
from ..exporting import ExportRequest, ExportResult, export_checkpoint
from ..schedules import short_length, shorten
from ..test_set import score_on_test_set
from ..training import TrainOptions, train
from .judging import judge, validation_set
from .options import CompressOptions
from .stages import Exported, Stages, Tested, Tuned

LAST = 'last_checkpoint'
"""Where mmengine keeps the name of the newest checkpoint of a training."""


RATE_INT8 = 0.1
"""Learning rate in 8 bits, as a share of that in float."""


class Steps(Hook):
    """Tells of the progress of a training or a test.

    Args:
        report (Progress): Is told.
    """

    def __init__(self, report: Progress) -> None:
        self.report = report

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """One step of training is done."""
        self.report(runner.iter + 1, runner.max_iters)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """One batch is tested."""
        self.report(batch_idx + 1, len(runner.test_loop.dataloader))


@dataclass(frozen=True)
class Weights:
    """What a training starts from.

    Args:
        policy (str): Policy file.
        checkpoint (str): Its weights.
        origin (str): Digest of what they came from.
    """

    policy: str
    checkpoint: str
    origin: str


@dataclass(frozen=True)
class Network:
    """One network on its way from a checkpoint to files that are tested.

    Args:
        name (str): ``'dense'``, or the name of its target.
        cfg (Config): Config of the dense model, which is never changed.
        options (CompressOptions): What is asked for.
        stages (Stages): Does what is not done.
        policy (str | None): Its policy file.
        origin (str): Digest of what its checkpoint came from.
    """

    name: str
    cfg: Config
    options: CompressOptions
    stages: Stages
    policy: str | None
    origin: str

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return Path(self.cfg.work_dir) / 'networks' / self.name

    @property
    def searched(self) -> str:
        """Its checkpoint before anything was done to it."""
        return self.cfg.load_from if self.policy is None else \
            str(Path(self.policy).with_suffix('.pth'))

    @property
    def identity(self) -> str:
        """Digest of its weights before anything was done to them."""
        if self.policy is None:
            return self.origin
        file = PolicyFile.load(self.policy)
        return digest([self.origin, file.policy.to_dict(), {
            unit: kept.tolist() for unit, kept in file.channels.items()}])

    def _config(self, folder: Path) -> Config:
        """A copy of the config for a runner of its own."""
        cfg = copy.deepcopy(self.cfg)
        cfg.work_dir = cfg.experiment_name = str(folder)
        return cfg

    def _do(self, title: str, name: str, settings: Any, kind: type, function: Callable):
        return self.stages.do(f'{title} {self.name}', self.folder / f'{name}.json',
                              settings, kind, function)

    # -- fine-tuning ---------------------------------------------------------------
    def tune(self, metric: str) -> Tuned:
        """Fine-tune it from the weights that the search wrote, and judge that.

        Args:
            metric (str): What it is judged by; see :func:`judge`.
        """
        length = self.options.epochs
        if length is None:
            length = short_length(self.cfg)
        return self._train(
            'fine-tune', 'tuned', self._training('train', length), Weights(
                self.policy, self.searched, self.identity), metric)

    def tune_int8(self, made: Exported, metric: str) -> Tuned:
        """Fine-tune it in 8 bits, with all points of its file in place.

        Args:
            made (Exported): Its file and the model of that; see :meth:`export`.
            metric (str): What it is judged by; see :func:`judge`.
        """
        cfg = self._training('train_int8', self.options.int8_epochs)
        optimizer = cfg.optim_wrapper.optimizer
        optimizer.lr = self.options.int8_lr or RATE_INT8 * optimizer.lr
        return self._train('fine-tune in 8 bits', 'tuned_int8', cfg, Weights(
            made.policy, made.weights, made.key), metric)

    def _training(self, folder: str, length: int) -> Config:
        """Config of a fine-tune of some epochs in a folder of its own."""
        cfg = self._config(self.folder / folder)
        shorten(cfg, length, self.options.lr)
        cfg.merge_from_dict(dict(self.options.finetune))
        return cfg

    def _train(
        self, title: str, name: str, cfg: Config, start: Weights, metric: str
    ) -> Tuned:
        """Train from some weights, and judge that."""
        distil = self.options.distill
        settings = [start.origin, distil, {
            key: cfg.get(key) for key in (
                'model', 'data_preprocessor', 'train_dataloader', 'train_cfg',
                'optim_wrapper', 'param_scheduler', 'custom_hooks', 'randomness')},
            validation_set(self.cfg)]

        def work(progress: Progress) -> Tuned:
            _forget_other_training(Path(cfg.work_dir), digest(settings))
            train(cfg, TrainOptions(
                start.policy, start.checkpoint, distil=distil, resume='auto'),
                [Steps(progress)])
            checkpoint = (Path(cfg.work_dir) / LAST).read_text().strip()
            scores, images = judge(self.cfg, metric, start.policy, dict(
                before=start.checkpoint, after=checkpoint))
            return Tuned(
                checkpoint=checkpoint, **scores, images=images, files=(checkpoint,))

        return self._do(title, name, settings, Tuned, work)

    # -- files ---------------------------------------------------------------------
    def export(self, checkpoint: str, origin: str, int8: bool) -> Exported:
        """Write its files.

        Args:
            checkpoint (str): Its weights.
            origin (str): Digest of what they came from.
            int8 (bool): Put it into 8 bits.
        """
        name, options = 'int8' if int8 else 'net', self.options
        quant = (self.cfg.get('compression') or {}).get('quant') or {}
        bits = EightBits(
            options.int8_limit,
            None if options.skip is None else tuple(options.skip),
            quant.get('observer', 'mse'), quant.get('symmetric', False),
            options.weight_bits)
        policy = self.folder / f'{name}.json'
        request = self._request(
            name, self.policy, model_out=policy if int8 else None,
            int8=bits if int8 else None)
        settings = [origin, checkpoint, int8 and bits.__dict__, *self._of_files()]

        def work(progress: Progress) -> Exported:
            found = export_checkpoint(
                copy.deepcopy(self.cfg), checkpoint, request, progress=progress)
            return _exported(
                found, str(policy) if int8 else '', found.costs,
                f'{self.name}: {found.eight}' if int8 else '')

        title = 'put into 8 bits' if int8 else 'export'
        return self._do(title, f'exported_{name}', settings, Exported, work)

    def export_tuned(self, made: Exported, tuned: Tuned) -> Exported:
        """Write the file of a network that was fine-tuned in 8 bits.

        Args:
            made (Exported): What was fine-tuned.
            tuned (Tuned): Its new weights.
        """
        request = self._request('int8_tuned', made.policy, half_weights=True)

        def work(progress: Progress) -> Exported:
            found = export_checkpoint(
                copy.deepcopy(self.cfg), tuned.checkpoint, request, progress=progress)
            return _exported(found, made.policy, made.costs, made.note)

        return self._do(
            'export, in 8 bits,', 'exported_int8_tuned',
            [tuned.key, tuned.checkpoint, *self._of_files()], Exported, work)

    def _request(self, name: str, policy: str | None, **more: Any) -> ExportRequest:
        return ExportRequest(
            self.folder / f'{name}.onnx', policy, runtime=self.options.runtime,
            images=self.options.calibration_images, **more)

    def _of_files(self) -> list:
        """What all files of a compression depend on."""
        options = self.options
        runtime = [options.runtime] if options.runtime != ONNX_RUNTIME.name else []
        return [options.calibration_images, (
            self.cfg.get('train_dataloader'), self.cfg.get('test_dataloader')),
            *runtime]

    # -- tests ---------------------------------------------------------------------
    def test(
        self, stage: str, checkpoint: str, origin: str, policy: str | None = None,
        backend: str = 'torch',
    ) -> Mapping[str, float]:
        """All metrics of a checkpoint or a file on the test set.

        Args:
            stage (str): What is tested.
            checkpoint (str): Weights or file.
            origin (str): Digest of what it came from.
            policy (str | None): Policy file of the weights.
            backend (str): What runs it. Defaults to torch.
        """
        name = stage.replace(' ', '_')
        about = [self.cfg.get(key) for key in (
            'model', 'data_preprocessor', 'test_dataloader', 'test_evaluator')]

        def work(progress: Progress) -> Tested:
            cfg = self._config(self.folder / f'test_{name}')
            return Tested(metrics=score_on_test_set(
                cfg, checkpoint, policy, backend, hooks=[Steps(progress)]))

        return self._do(f'test {stage},', f'tested_{name}', [origin, backend, about],
                        Tested, work).metrics


def _exported(
    found: ExportResult, policy: str, costs: Mapping[str, float], note: str
) -> Exported:
    onnx = tuple(str(file.path) for file in found.files)
    return Exported(
        onnx=onnx, size=sum(file.size for file in found.files), policy=policy,
        costs=costs, note=note, files=(*onnx, *([policy] if policy else [])))


def _forget_other_training(folder: Path, key: str) -> None:
    """Begin anew, not where a training with other settings was."""
    mark = folder / 'settings.txt'
    if not mark.exists() or mark.read_text() != key:
        # Without the note, the newest checkpoint would be gone on with.
        for path in (folder / LAST, *folder.glob('epoch_*.pth'),
                     *folder.glob('iter_*.pth')):
            path.unlink(missing_ok=True)
        write_text(mark, key)
