"""Checkpoints that a kill at any time leaves something to resume from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from ...files import write_bytes
from ...registry import HOOKS

WHOLE = 'mmcompress.whole'


class WholeFiles(LocalBackend):
    """Local files that appear complete or not at all."""

    def put(self, obj: bytes, filepath: str | os.PathLike) -> None:
        """Write under another name, then rename."""
        write_bytes(filepath, obj)


register_backend(WHOLE, WholeFiles, force=True)


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """mmengine's hook, which here removes no checkpoint before the next is written.

    mmengine makes room first and writes in place, so a kill in a save with
    ``max_keep_ckpts=1`` leaves nothing. ``tools/train.py`` puts this hook in the place
    of mmengine's; it takes the same options.
    """

    def before_train(self, runner: Runner) -> None:
        """Choose where to write."""
        remote = '://' in str(self.out_dir or '')
        if not (remote or self.backend_args or self.file_client_args):
            self.backend_args = dict(backend=WHOLE)
        super().before_train(runner)

    def _save_checkpoint_with_step(self, runner: Runner, *args: Any, **kwargs: Any
                                   ) -> None:
        with self._removing_afterwards():
            super()._save_checkpoint_with_step(runner, *args, **kwargs)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        with self._removing_afterwards():
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _removing_afterwards(self) -> Iterator[None]:
        """Remove what is asked to be removed once the block has written the next."""
        remove, outdated = self.file_backend.remove, []
        self.file_backend.remove = outdated.append
        try:
            yield
        finally:
            self.file_backend.remove = remove
        written = {self.last_ckpt, getattr(self, 'best_ckpt_path', None),
                   *getattr(self, 'best_ckpt_path_dict', {}).values()}
        for path in outdated:
            if path not in written:
                remove(path)
