"""A stage of a compression: done once, its result kept as JSON."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from math import isnan, nan
from pathlib import Path
from typing import Any, TypeVar

from ...exporter.quantise.float_layers import Progress
from ...files import read_json, write_text
from ...options import record
from ...plain import digest
from .console import Console, clock


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """What a stage gave.

    Args:
        key (str): Digest of its settings.
        seconds (float): How long it took, the last time if it was interrupted.
        files (tuple[str, ...]): What has to be there for it to be done.
    """

    key: str = ''
    seconds: float = 0.0
    files: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Searched(StageResult):
    """Policies by target name, the costs of the dense model, the score's name."""

    policies: Mapping[str, str] = field(default_factory=dict)
    dense: Mapping[str, float] = field(default_factory=dict)
    metric: str = ''


@dataclass(frozen=True, kw_only=True)
class Tuned(StageResult):
    """A checkpoint, and what came of it on images to choose by.

    Args:
        checkpoint (str): The last one of the training.
        before (float): Score as searched, higher is better.
        after (float): That of the checkpoint.
        images (str): Which images that was on.
    """

    checkpoint: str = ''
    before: float = nan
    after: float = nan
    images: str = ''

    @property
    def is_worse(self) -> bool:
        """Whether the training did harm; nothing detected is no score at all."""
        return not isnan(self.before) and not self.after >= self.before


@dataclass(frozen=True, kw_only=True)
class Exported(StageResult):
    """Files of one network.

    Args:
        onnx (tuple[str, ...]): The files; several for a detector of two stages.
        size (int): Their bytes.
        policy (str): Policy file of the network in 8 bits, its weights beside it.
        costs (Mapping[str, float]): Of the network in 8 bits.
        note (str): What was put into 8 bits, and what was not.
    """

    onnx: tuple[str, ...] = ()
    size: int = 0
    policy: str = ''
    costs: Mapping[str, float] = field(default_factory=dict)
    note: str = ''

    @property
    def weights(self) -> str:
        """Checkpoint of the network in 8 bits."""
        return str(Path(self.policy).with_suffix('.pth'))


@dataclass(frozen=True, kw_only=True)
class Tested(StageResult):
    """All metrics of a network on the test set."""

    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Timed(StageResult):
    """Median milliseconds of one call, by file."""

    milliseconds: Mapping[str, float] = field(default_factory=dict)


Result = TypeVar('Result', bound=StageResult)


def file_digest(path: str | Path) -> str:
    """Short hash of the content of a file; of its name if it is not here (a URL)."""
    path = Path(path)
    content = path.read_bytes() if path.is_file() else str(path).encode()
    return hashlib.sha256(content).hexdigest()[:16]


class Stages:
    """Does stages that have not been done.

    Args:
        console (Console): Shows what happens.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._seconds: dict[str, float] = {}

    def times(self) -> str:
        """How long stages of each kind took, earlier calls' too."""
        return ', '.join(f'{kind} {clock(x)}' for kind, x in self._seconds.items())

    def do(
        self, title: str, path: Path, settings: Any, kind: type[Result],
        function: Callable[[Progress], Result],
    ) -> Result:
        """The result of a stage, of this call or of an earlier one.

        Args:
            title (str): What the console shows.
            path (Path): JSON file of the result.
            settings (Any): Everything that the result depends on.
            kind (type): What ``function`` returns.
            function (Callable): Does the work; is handed what to tell of its progress.
        """
        key = digest(settings)
        found = read(path, kind)
        if found and found.key == key and all(Path(f).exists() for f in found.files):
            self.console.skipped(title)
        else:
            start = time.perf_counter()
            with self.console.stage(title) as progress:
                found = function(progress)
            found = replace(found, key=key, seconds=time.perf_counter() - start)
            write_text(path, json.dumps(asdict(found), indent=1))
        word = kind.__name__.lower()
        self._seconds[word] = self._seconds.get(word, 0.0) + found.seconds
        return found


def read(path: Path, kind: type[Result]) -> Result | None:
    """A result that was kept; None if there is none that this version understands."""
    try:
        return record(kind, read_json(path))
    except (OSError, ValueError, TypeError, AttributeError):
        return None  # the stage is done again
