"""A prepared model: everything that a search, a price or a benchmark asks about it."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from .errors import CompressionError
from .evaluation import PolicyEvaluator, Score
from .evaluation.distance import DetectionReference, Reference, reference_of
from .graph import trace, verify
from .mutators import Calibration, JointMutator
from .mutators.settings import RECONSTRUCT, check_compression
from .plain import plain
from .policy import ChannelScores, ModelGraph, Policy, SearchSpace
from .surgery.weights import check_finite, weights_digest

COMPARED = 64
"""Images that the forms of a repair are compared on; whole batches are taken."""

CLEARLY = 0.9
"""Share of the closed form's distance that the fitted one has to stay below."""


@dataclass(frozen=True, eq=False)
class Session:
    """One model, traced, verified and made ready to act as any policy.

    Args:
        model (nn.Module): The live model. Its channels are sorted; its outputs and
            state-dict keys are those of the dense model.
        graph (ModelGraph): Its verified channel units, and its layers.
        space (SearchSpace): The widths and bits that policies may choose.
        mutator (JointMutator): Makes the model act as a policy.
        evaluator (PolicyEvaluator): Scores what it then achieves.
        weights (str): Digest of the weights before sorting.
        compression (Mapping): The settings of the mutators.
        price_source (Mapping): Config of the source of prices, unless a search names
            another.
        repairs_by_default (bool): Candidates are repaired though ``compression`` as it
            was given does not ask for it.
    """

    model: nn.Module
    graph: ModelGraph
    space: SearchSpace
    mutator: JointMutator
    evaluator: PolicyEvaluator
    weights: str
    compression: Mapping[str, Any] = field(default_factory=dict)
    price_source: Mapping[str, Any] = field(
        default_factory=lambda: dict(type='GradientPrices'))
    repairs_by_default: bool = False

    @staticmethod
    def from_config(config: Any, **overrides: Any) -> Session:
        """Prepare the model of an OpenMMLab config, as ``tools/search.py`` does.

        Args:
            config (str | Config): The config, or its file: a model, a checkpoint
                (``load_from``), ``compression`` and ``search_cfg``.
            overrides: Settings of the config by dotted name, with ``__`` for dots,
                e.g. ``search_cfg__evaluator__images=64``.

        Returns:
            Session: Prepared.

        Example:
            >>> session = mmc.Session.from_config('my_search.py')
            >>> family = mmc.search(session, macs=0.5, evaluations=40)
        """
        # By name: the core does not depend on the wing for OpenMMLab.
        wing = import_module('mmcompress.openmmlab.sessions')
        return wing.session_of_file(config, **overrides)

    @property
    def score_name(self) -> str:
        """Name of what policies are scored by."""
        return self.evaluator.metric

    @property
    def scores(self) -> ChannelScores | None:
        """Importance of every channel; None where no widths are searched."""
        return self.mutator.scores

    @property
    def signature(self) -> dict:
        """What scores of policies depend on besides the weights, as plain data."""
        return dict(
            fingerprint=self.graph.fingerprint,
            units=[unit.name for unit in self.graph.units],
            compression=plain(self.compression), evaluator=self.evaluator.signature,
            input_shape=list(self.graph.input_shape))

    def without_repair(self) -> Session:
        """The same session, whose candidates are only sliced and rounded."""
        others = [m for m in self.mutator.mutators if m.repair is None]
        compression = {k: v for k, v in self.compression.items() if k != RECONSTRUCT}
        return replace(self, mutator=JointMutator(*others), compression=compression,
                       repairs_by_default=False)

    def score(self, policy: Policy) -> Score:
        """Measure what the model achieves as a policy says; it comes back dense."""
        return self.evaluator.evaluate(policy, self.mutator)

    def materialise(self, policy: Policy) -> nn.Module:
        """The small model of a policy, with statistics of batch norms that fit it.

        Where the form of the repair is left open, it is the closed one, in which
        candidates are scored, unless the outputs of the fitted one on scoring images
        are clearly nearer to the dense ones: those of a detector by its boxes and
        scores as far as they can be compared, and proposals of two-stage detectors
        cannot.
        """
        repair = self.mutator.repair
        if repair is None or repair.sequential is not None or not policy.widths:
            return self._written(policy)
        if policy in self._fits:
            with repair.writing(self._fits[policy]):
                return self._written(policy)
        with repair.writing(False):
            closed = self._written(policy)
        with repair.writing(True):
            fitted = self._written(policy)
        try:
            nearer = self._reference.distance(fitted) \
                < CLEARLY * self._reference.distance(closed)
        except CompressionError:  # outputs of other shapes
            nearer = False
        self._fits[policy] = nearer
        return fitted if nearer else closed

    @cached_property
    def _fits(self) -> dict[Policy, bool]:
        """Policies whose fitted form is the nearer one, or is not."""
        return {}

    @cached_property
    def _reference(self) -> Reference | DetectionReference:
        """Outputs of the dense model on scoring images."""
        batches, count = [], 0
        for batch in self.evaluator.scoring:
            if count < COMPARED:
                batches.append(batch)
            count += len(batch.inputs)
        return reference_of(self.model, batches)

    def _written(self, policy: Policy) -> nn.Module:
        """The model of a policy in the form that the repair is set to."""
        self.evaluator.norm_batches()
        slim = self.mutator.materialise(policy)
        if not self.mutator.settles_norms(policy):
            self.evaluator.recalibrate(slim)
        return slim

    def __repr__(self) -> str:
        return f'Session of {type(self.model).__name__}: {self.graph.describe()}'

    def _repr_html_(self) -> str:
        return f'<p>{html.escape(repr(self))}</p>'


def open_session(
    model: nn.Module, graph: ModelGraph, evaluator: PolicyEvaluator,
    compression: Mapping[str, Any],
    price_source: Mapping[str, Any] | None = None, folder: Path | None = None,
) -> Session:
    """Sort the channels, calibrate the quantisers, and find the search space.

    Args:
        model (nn.Module): The dense model; its channels are sorted in place.
        graph (ModelGraph): Of :func:`find_units`.
        evaluator (PolicyEvaluator): Holds the images.
        compression (Mapping): Settings of the mutators.
        price_source (Mapping | None): See :class:`Session`.
        folder (Path | None): Where the statistic of the repair is kept. Defaults to
            None: it is measured again.
    """
    check_compression(compression)
    given = RECONSTRUCT in compression
    compression = with_repair(compression, bool(evaluator.calibration))
    mutator = JointMutator.from_config(compression)
    weights = weights_digest(model)
    mutator.prepare(model, graph, Calibration(
        evaluator.calibration, evaluator.losses, folder=folder))
    space = SearchSpace.from_graph(graph, **mutator.space_options)
    source = {} if price_source is None else dict(price_source=dict(price_source))
    return Session(model, graph, space, mutator, evaluator, weights,
                   dict(compression), **source,
                   repairs_by_default=not given and RECONSTRUCT in compression)


def with_repair(compression: Mapping[str, Any], images: bool) -> dict[str, Any]:
    """Settings that say whether candidates are repaired.

    Unless ``reconstruct`` is given, they are where widths are searched and there are
    calibration images, except those of a supernet, whose channels have been trained to
    do without the others.

    Args:
        compression (Mapping): As a user gives it; ``reconstruct`` may be a bool.
        images (bool): Whether there are calibration images.

    Returns:
        dict: ``reconstruct`` is absent or a dict.
    """
    found = dict(compression)
    channel = found.get('channel') or {}
    default = images and channel.get('importance') != 'index' and (
        'channel' in found or 'quant' not in found)
    given = found.pop(RECONSTRUCT, default)
    if given is True or isinstance(given, Mapping):
        found[RECONSTRUCT] = {} if given is True else dict(given)
    return found


def find_units(model: nn.Module, shape: tuple[int, ...]) -> ModelGraph:
    """Trace a model and verify what was found.

    Args:
        model (nn.Module): The dense model.
        shape (tuple[int, ...]): ``(C, H, W)`` of the image that costs refer to.

    Raises:
        CompressionError: A weight is no number.
        TraceError: The model cannot be traced, or no unit passes.
    """
    check_finite(model)
    return verify(model, trace(model, shape))
