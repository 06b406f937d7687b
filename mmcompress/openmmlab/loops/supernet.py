"""The loops that train a supernet: full network, tiny and random subnets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Literal

import numpy as np
import torch
from mmengine.dist import all_reduce_params, broadcast_object_list, is_distributed
from mmengine.hooks import EMAHook
from mmengine.model import is_model_wrapper
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from ...errors import CompressionError
from ...graph import trace, verify
from ...kinds import kind_of
from ...layers.multihead import open_attentions
from ...mutators import importance
from ...mutators.importance import KINDS
from ...options import Natural, NotNegative, Positive, checking
from ...policy import Policy, SearchSpace
from ...registry import LOOPS, MUTATORS, build
from ...supernet.draws import drawn_policies
from ...supernet.recording import Recording
from ...supernet.stages import Stage, heads_of, read_stages
from ...supernet.supernet import Supernet
from ...surgery.permute import permute
from ..cli import load_weights
from ..input_shape import input_shape_of
from ..models.compressed import with_preprocessor
from ..training_images import load_train_batches

SORT_BATCHES = 8
"""Training batches whose gradients sort the channels, for ``sort='taylor'``."""


class SupernetTraining:
    """Trains the subnets of a network along with it; mixed into a loop of mmengine.

    SWP (Machine Intelligence Research 2023, arXiv 2011.04908): in every iteration the
    full network learns its task; then every stage of the tiny subnet and of random
    ones learns to return what the full network's stage returned on the same input;
    then the optimiser takes one step. The search space is the one of ``compression``.

    Gradients of each subnet are computed, and its memory freed, before the next.
    Everything else (hooks, averages of weights, clipping and accumulating gradients,
    mixed precision, checkpoints) is as in any training.

    Args:
        runner (Runner): The runner.
        dataloader (DataLoader | dict): The training images.
        stages (str | Sequence | None): ``'auto'``, a list (see :func:`read_stages`), or
            None: subnets of the whole network, compared by what its heads return.
        full (bool): Whether the full network is trained. Without it, subnets of the
            whole network learn the task themselves. Defaults to True.
        tiny (bool): Whether the network of the smallest widths is trained. Defaults
            to True.
        random (int): Random subnets per iteration. Defaults to 1.
        weight (float): Factor of the subnets' losses. Defaults to 1.
        temperature (float): Of softened logits. Defaults to 4.
        sort (str | None): Importance by which the channels of a pretrained network
            are sorted, once, before the first iteration. Defaults to None.
        teacher (str | None): Checkpoint of a frozen full network to learn from.
            Defaults to None: the network itself as it is in the iteration.
        kwargs: Of the loop, e.g. ``max_epochs``.
    """

    @checking
    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        stages: str | Sequence | None = 'auto',
        full: bool = True,
        tiny: bool = True,
        random: Natural = 1,
        weight: NotNegative = 1.0,
        temperature: Positive = 4.0,
        sort: Literal[KINDS] | None = None,
        teacher: str | None = None,
        **kwargs,
    ) -> None:
        super().__init__(runner, dataloader, **kwargs)
        open_attentions(runner.model)  # before an optimiser holds their parameters
        self.stages_cfg, self.full, self.tiny, self.random = stages, full, tiny, random
        self.weight, self.temperature = weight, temperature
        self.sort, self.teacher_checkpoint = sort, teacher
        if not (full or tiny or random):
            raise CompressionError(
                'The loop trains nothing: set full, tiny or random of train_cfg.')
        if stages is not None and not full and teacher is None:
            raise CompressionError(
                'Stages learn from the full network: set full=True, or give the '
                'checkpoint of a trained one as teacher.')

    def run(self) -> nn.Module:
        """Train."""
        self.prepare()
        return super().run()

    # -- before --------------------------------------------------------------
    def prepare(self) -> None:
        """Trace the model, sort its channels if asked to, find its stages."""
        cfg, model = self.runner.cfg, self.runner.model
        self.model = model.module if is_model_wrapper(model) else model
        shape = input_shape_of(cfg)
        self.graph = verify(self.model, trace(self.model, shape))
        self.runner.logger.info(self.graph.describe())
        channel = (cfg.get('compression') or {}).get('channel') or {}
        mutator = build(MUTATORS, {'type': 'ChannelMutator', **channel})
        if mutator.importance != 'index':
            raise CompressionError(
                'A supernet keeps the order its channels are trained in: set '
                "compression.channel.importance='index', and sort of the loop to sort "
                'a pretrained network before the training.')
        self.teacher = self._load_teacher()
        if self.sort and not self.runner._resume:
            self._sort()
        mutator.prepare(self.model, self.graph)
        self.space = SearchSpace.from_graph(self.graph, **mutator.space_options)
        stages = heads_of(self.model) if self.stages_cfg is None else \
            read_stages(self.model, self.stages_cfg, shape)
        self.supernet = Supernet(
            self.model, self.graph, mutator, stages, self.temperature)
        self.trained = [s for s in stages if _is_trained(self.model, s)]
        self.runner.logger.info('Stages: ' + '; '.join(
            f'{s.name} ({", ".join(s.modules)}; {s.loss})' for s in stages))

    def _load_teacher(self) -> nn.Module | None:
        if self.teacher_checkpoint is None:
            return None
        cfg = self.runner.cfg
        teacher = MMENGINE_MODELS.build(
            with_preprocessor(cfg.model, cfg.get('data_preprocessor')))
        load_weights(teacher, self.teacher_checkpoint)
        device = next(self.model.parameters()).device
        return teacher.to(device).eval().requires_grad_(False)

    def _sort(self) -> None:
        """Sort the model, its running average and its teacher alike."""
        losses = []
        if self.sort == 'taylor':
            batches = load_train_batches(
                self.runner.cfg, self.model.data_preprocessor, SORT_BATCHES,
                self.runner.seed)
            kind = kind_of(self.model)
            losses = [lambda batch=batch: kind.loss(self.model, batch)
                      for batch in batches]
        scores = importance(self.model, self.graph, self.sort, losses)
        order = [{name: np.argsort(-score, kind='stable')
                  for name, score in scores.items()}]
        broadcast_object_list(order)  # gradients differ between processes
        averages = [hook.ema_model.module for hook in self.runner.hooks
                    if isinstance(hook, EMAHook)]
        for model in (self.model, self.teacher, *averages):
            if model is not None:
                model = model.module if is_model_wrapper(model) else model
                permute(model, self.graph, order[0])

    # -- one iteration -------------------------------------------------------
    def train_on(self, idx: int, data_batch: dict) -> None:
        """Train on one batch, the ``idx``-th of the epoch."""
        self.runner.call_hook(
            'before_train_iter', batch_idx=idx, data_batch=data_batch)
        with self._unsynchronised():
            outputs = self._gradients(data_batch)
        wrapper = self.runner.optim_wrapper
        wrapper._inner_count += 1
        if wrapper.should_update():
            self._average_gradients()
            wrapper.step()
            wrapper.zero_grad()
        self.runner.call_hook(
            'after_train_iter', batch_idx=idx, data_batch=data_batch, outputs=outputs)
        self._iter += 1

    def _gradients(self, data_batch: dict) -> dict[str, Tensor]:
        """Accumulate the gradients of all networks; returns what is logged."""
        policies = drawn_policies(
            self.space, self.runner.seed, self._iter, self.tiny, self.random)
        recording = Recording(self.supernet.stages)
        with self._context():
            data = self.model.data_preprocessor(data_batch, True)
            if self.teacher is not None:
                with torch.no_grad(), recording.of(self.teacher):
                    self.teacher(**data, mode='tensor')
        log = self._train_full(data, recording) if self.full else {}
        subnets: dict[str, Tensor] = {}
        for name, policy in policies.items():
            if self.stages_cfg is not None:
                subnets.update(self._train_stages(name, policy, recording))
            elif self.full or self.teacher is not None:
                subnets[f'loss_{name}'] = self._train_whole(policy, data, recording)
            else:
                subnets[f'loss_{name}'] = self._train_alone(policy, data)
        log.setdefault('loss', sum(subnets.values()))
        return {**log, **subnets}

    def _train_full(self, data: dict, recording: Recording) -> dict[str, Tensor]:
        """The full network's task; records its stages unless a teacher has."""
        watch = self.teacher is None and (self.tiny or self.random)
        with self._context(), recording.of(self.model) if watch else nullcontext():
            losses = self.model(**data, mode='loss')
        loss, log = self.model.parse_losses(losses)
        self._backward(loss)
        return log

    def _train_stages(
        self, name: str, policy: Policy, recording: Recording
    ) -> dict[str, Tensor]:
        """Each stage of a subnet on the full network's input of that stage."""
        found = {}
        with self.supernet.acting(policy):
            for stage in self.trained:
                with self._context():
                    loss = self.supernet.stage_loss(stage, recording, policy)
                self._backward(self.weight * loss)
                found[f'loss_{name}_{stage.name}'] = loss.detach()
        return found

    def _train_whole(self, policy: Policy, data: dict, recording: Recording) -> Tensor:
        """A whole subnet by the full network's outputs."""
        with self.supernet.acting(policy):
            with self._context():
                loss = self.supernet.whole_loss(recording, data)
            self._backward(self.weight * loss)
        return loss.detach()

    def _train_alone(self, policy: Policy, data: dict) -> Tensor:
        """A whole subnet by the task; it leaves its statistics to the network."""
        mutator = self.supernet.mutator
        with mutator.acting(policy):
            with self._context():
                losses = self.model(**data, mode='loss')
            loss, _ = self.model.parse_losses(losses)
            self._backward(self.weight * loss)
            kept = mutator.selection.kept(mutator.selection.of_policy(policy))
            for path, sides in kept.items():
                norm = self.model.get_submodule(path)
                if isinstance(norm, _BatchNorm):
                    for buffer in ('running_mean', 'running_var'):
                        norm._buffers[buffer][sides['out']] = getattr(norm, buffer)
        return loss.detach()

    # -- what the wrappers of mmengine do per backward pass ------------------
    def _context(self):
        return self.runner.optim_wrapper.optim_context(self.model)

    def _backward(self, loss: Tensor) -> None:
        """Scale and differentiate; several of these make one iteration."""
        wrapper = self.runner.optim_wrapper
        count = wrapper._inner_count
        wrapper.backward(wrapper.scale_loss(loss))
        wrapper._inner_count = count

    @contextmanager
    def _unsynchronised(self) -> Iterator[None]:
        """No process waits for others in a backward pass: there are several."""
        wrapped = self.runner.model
        with wrapped.no_sync() if hasattr(wrapped, 'no_sync') else nullcontext():
            yield

    def _average_gradients(self) -> None:
        """One reduction of all gradients per step."""
        if not is_distributed():
            return
        gradients = []
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                if parameter.grad is None:  # Another process may have one.
                    parameter.grad = torch.zeros_like(parameter)
                gradients.append(parameter.grad)
        all_reduce_params(gradients, op='mean')


@LOOPS.register_module()
class SupernetTrainLoop(SupernetTraining, EpochBasedTrainLoop):
    """:class:`SupernetTraining` by epochs; see :class:`EpochBasedTrainLoop`."""

    def run_iter(self, idx: int, data_batch: dict) -> None:
        """Train on one batch."""
        self.train_on(idx, data_batch)


@LOOPS.register_module()
class SupernetIterTrainLoop(SupernetTraining, IterBasedTrainLoop):
    """:class:`SupernetTraining` by iterations; see :class:`IterBasedTrainLoop`."""

    def run_iter(self, data_batch: dict) -> None:
        """Train on one batch."""
        self.train_on(self._iter, data_batch)


def _is_trained(model: nn.Module, stage: Stage) -> bool:
    return any(p.requires_grad for path in stage.modules
               for p in model.get_submodule(path).parameters())
