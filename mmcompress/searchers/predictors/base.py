"""What every predictor is: a differentiable guess of scores, and how good it is."""

from __future__ import annotations

import io
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from scipy.stats import kendalltau, spearmanr
from torch import Tensor

from ...errors import PredictorError
from ...files import write_bytes
from ...options import Checked, Natural, record
from ...policy import SearchSpace
from ...registry import PREDICTORS, build
from .features import PolicyFeatures

FORMAT, VERSION = 'mmcompress.predictor', 1
FEWEST_LABELS = 4


@dataclass(frozen=True)
class Agreement:
    """How well predictions order policies they were not fitted on.

    Args:
        spearman, kendall (float): Rank correlations; nan where all scores or all
            predictions are equal.
        labels (int): Number of policies compared.
    """

    spearman: float
    kendall: float
    labels: int

    @classmethod
    def of(cls, predicted: Tensor | np.ndarray, measured: Tensor | np.ndarray):
        """Compare predictions with measurements, both ``(N,)``."""
        predicted, measured = np.asarray(predicted), np.asarray(measured)
        if np.ptp(predicted) == 0 or np.ptp(measured) == 0:
            return cls(float('nan'), float('nan'), len(measured))
        return cls(float(spearmanr(predicted, measured)[0]),
                   float(kendalltau(predicted, measured)[0]), len(measured))


class Predictor(Checked, ABC):
    """Predicts the score of policies from a few labelled ones.

    A new predictor implements :meth:`_fit`, :meth:`_mean` and :meth:`_std` on
    standardised features and scores, keeps what it learned in ``self.state``
    (tensors by name), and registers itself in ``PREDICTORS``.

    Args:
        space (SearchSpace): Space of the policies.
        seed (int): Seed of every draw. Defaults to 0.

    Attributes:
        agreement (Agreement | None): Cross-validated on the labels of the last fit.
        state (dict[str, Tensor]): What was learned.
    """

    def __init__(self, space: SearchSpace, seed: Natural = 0) -> None:
        self.space = space
        self.seed = seed
        self.features = PolicyFeatures(space)
        self.agreement: Agreement | None = None
        self.state: dict[str, Tensor] = {}

    @property
    def options(self) -> dict[str, Any]:
        """Arguments that build this predictor again, as plain data."""
        return dict(seed=self.seed)

    @abstractmethod
    def _fit(self, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """Learn, and predict every label as if it had not been seen.

        Args:
            x (Tensor): Features ``(N, F)``.
            y (Tensor): Scores ``(N,)`` with mean 0 and variance 1.
            weight (Tensor): ``(N,)``, mean 1.

        Returns:
            Tensor: Cross-validated predictions ``(N,)``.
        """

    @abstractmethod
    def _mean(self, x: Tensor) -> Tensor:
        """Standardised scores ``(N,)`` from features ``(N, F)``."""

    @abstractmethod
    def _std(self, x: Tensor) -> Tensor:
        """Their standard deviations ``(N,)``, positive."""

    def fit(
        self,
        rows: Tensor | np.ndarray,
        scores: Tensor | np.ndarray,
        weights: Tensor | np.ndarray | None = None,
    ) -> Agreement:
        """Learn from labels; what was learned before is forgotten.

        Args:
            rows (Tensor | np.ndarray): Policies ``(N, len(space))``.
            scores (Tensor | np.ndarray): Their scores ``(N,)``.
            weights (Tensor | np.ndarray, optional): Positive importance of each
                label in the loss, ``(N,)``. Equal by default.

        Returns:
            Agreement: Cross-validated; also kept as ``agreement``.

        Raises:
            PredictorError: Too few labels, or some that are not finite.
        """
        y = torch.as_tensor(scores).to(torch.float64)
        w = torch.ones_like(y) if weights is None else \
            torch.as_tensor(weights).to(torch.float64)
        if len(y) < FEWEST_LABELS:
            raise PredictorError(
                f'A predictor needs at least {FEWEST_LABELS} labels, not {len(y)}. '
                'Give the search more evaluations.')
        if not (torch.isfinite(y).all() and torch.isfinite(w).all() and (w > 0).all()):
            raise PredictorError(
                'Labels must have finite scores and positive weights. Leave out '
                'policies whose evaluation failed.')
        w = w / w.mean()
        offset = (w * y).mean()
        spread = (w * (y - offset) ** 2).mean().sqrt()
        scale = spread if spread > 1e-12 * (1 + offset.abs()) else torch.ones_like(y[0])
        self.state = {}
        unseen = self._fit(self.features(rows), (y - offset) / scale, w)
        self.state.update(offset=offset, scale=scale)
        self.agreement = Agreement.of(unseen.detach(), y)
        return self.agreement

    def predict(self, rows: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
        """Predict scores; gradients flow to real-valued ``rows``.

        Args:
            rows (Tensor | np.ndarray): Policies ``(..., len(space))``.

        Returns:
            tuple[Tensor, Tensor]: Mean and standard deviation, float64 ``(...)``.

        Raises:
            PredictorError: It has not been fitted.
        """
        x = self.features(rows)
        flat = x.reshape(-1, x.shape[-1])
        mean = self.mean(flat)
        std = self.state['scale'] * self._std(flat)
        return mean.reshape(x.shape[:-1]), std.reshape(x.shape[:-1])

    def mean(self, features: Tensor) -> Tensor:
        """Predicted scores ``(N,)`` from features ``(N, F)``, without deviations.

        What solvers call: it is the cheaper part, and losses between choices are
        closer to linear in features than in rows.
        """
        if not self.state:
            raise PredictorError('The predictor has no labels yet; call fit first.')
        return self.state['offset'] + self.state['scale'] * self._mean(features)

    # -- files ---------------------------------------------------------------
    def save(self, path: str | os.PathLike) -> None:
        """Write an ``.npz`` with a JSON header; it appears complete or not at all."""
        buffer = io.BytesIO()
        self.write(buffer)
        write_bytes(path, buffer.getvalue())

    def write(self, file: io.BytesIO) -> None:
        """Write the content of :meth:`save` to an open file."""
        header = dict(
            format=FORMAT, version=VERSION, type=type(self).__name__,
            options=self.options, space=_plain(self.space),
            agreement=asdict(self.agreement) if self.agreement else None)
        arrays = {k: v.detach().numpy() for k, v in self.state.items()}
        np.savez(file, header=np.array(json.dumps(header)), **arrays)

    @staticmethod
    def load(path: str | os.PathLike, space: SearchSpace) -> Predictor:
        """Read a predictor of any registered type.

        Args:
            path (str | os.PathLike): The file.
            space (SearchSpace): The space it must have been fitted on.

        Raises:
            PredictorError: Missing, damaged, or of another space.
        """
        header, arrays = _read(path)
        if header['space'] != _plain(space):
            raise PredictorError(
                f'{path} was fitted on another search space. Use the config it was '
                'searched with, or search again.')
        try:
            predictor: Predictor = build(
                PREDICTORS, dict(header['options'], type=header['type']), space=space)
            predictor.state = {
                k: torch.from_numpy(np.array(v)) for k, v in arrays.items()}
            predictor.predict(space.highest[None])
            if header['agreement']:
                predictor.agreement = record(Agreement, header['agreement'])
        except (KeyError, ValueError, TypeError, RuntimeError, IndexError) as error:
            raise PredictorError(
                f'{path} is damaged ({error}). Search again.') from error
        return predictor


def _read(path: str | os.PathLike) -> tuple[Mapping, dict[str, np.ndarray]]:
    """Header and arrays of a saved predictor."""
    try:
        with np.load(Path(path), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(str(arrays.pop('header')))
    except FileNotFoundError:
        raise PredictorError(
            f'There is no predictor {str(path)!r}. A SeerNet search writes it to its '
            'work dir.') from None
    except (OSError, ValueError, KeyError, AttributeError, BadZipFile, EOFError,
            MemoryError, RecursionError) as error:
        raise PredictorError(
            f'{path} cannot be read as a predictor: {error}. Search again.') from error
    if not isinstance(header, dict) or 'space' not in header or (
            header.get('format'), header.get('version')) != (FORMAT, VERSION):
        raise PredictorError(
            f'{path} is not a predictor of version {VERSION}. Search again or use a '
            'matching mmcompress.')
    return header, arrays


def _plain(space: SearchSpace) -> dict:
    return dict(units=list(space.units), layers=list(space.layers),
                choices=[list(c) for c in space.choices])
