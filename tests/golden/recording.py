"""Running the golden runs with the code of one checkout."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import artefacts
import torch
from cases import Case
from comparing import RECORDED

GOLDEN = Path(__file__).resolve().parent
PRETRAINED = 'pretrained'
TAIL = 25
"""Lines of a log that are shown when a case fails."""


class GoldenError(Exception):
    """A golden run failed, or cannot be made here."""


@dataclass(frozen=True)
class Recorder:
    """Records golden runs of one checkout.

    Args:
        checkout (Path): The code to run: its package, tools and configs.
        commit (str | None): Commit that it is exactly, None for a changed tree, which
            is recorded afresh every time.
        out (Path): Where to write: a folder for each case, and ``work``, where the
            commands run.
    """

    checkout: Path
    commit: str | None
    out: Path

    def record(self, cases: Sequence[Case]) -> None:
        """Run the cases that have not been recorded; tell how long each took.

        Raises:
            GoldenError: A command failed or took too long.
        """
        todo = [case for case in cases if not self._is_recorded(case)]
        if todo:
            self._prepare()
        for case in cases:
            if case not in todo:
                print(f'{case.name}: recorded before', flush=True)
                continue
            start, used = time.perf_counter(), _processor_seconds()
            self._run(case)
            seconds = time.perf_counter() - start
            used = _processor_seconds() - used
            (self.out / case.name / RECORDED).write_text(json.dumps(dict(
                self._about(case), seconds=round(seconds, 1),
                processor_seconds=round(used, 1)), indent=1))
            print(f'{case.name}: {seconds:.0f} s, {used:.0f} s of the processor',
                  flush=True)

    def _is_recorded(self, case: Case) -> bool:
        path = self.out / case.name / RECORDED
        if self.commit is None or not path.is_file():
            return False
        about = json.loads(path.read_text())
        return {**about, **self._about(case)} == about

    def _about(self, case: Case) -> dict:
        """What must be the same for a recording to be of use again."""
        sources = [(GOLDEN / name).read_bytes() for name in
                   ('artefacts.py', 'networks.py')]
        return dict(
            commit=self.commit, machine=machine(),
            case=hashlib.sha256(repr(case).encode() + b''.join(sources)).hexdigest())

    # -- running -------------------------------------------------------------
    def _prepare(self) -> None:
        """Lay out the folder that cases run in, and convert the CIFAR networks."""
        work = self.out / 'work'
        data = work / 'shared' / 'data'
        if not data.is_dir():
            data.parent.mkdir(parents=True, exist_ok=True)
            data.unlink(missing_ok=True)
            data.symlink_to(shared_data(), target_is_directory=True)
        self._check_import(work)
        if not (work / PRETRAINED).is_dir():
            self._command(
                ('{checkout}/tools/convert_cifar_resnet.py', 'shared/data/cifar_resnet',
                 '--out', PRETRAINED), work, work / 'convert.log', 1800)

    def _check_import(self, work: Path) -> None:
        """Another installation of the package would make every comparison equal."""
        code = 'import importlib.util as u; print(u.find_spec("mmcompress").origin)'
        found = subprocess.run(
            [sys.executable, '-c', code], cwd=work, env=self._environment(),
            capture_output=True, text=True, check=True).stdout.strip()
        if not Path(found).resolve().is_relative_to(self.checkout):
            raise GoldenError(f'{found} is imported instead of {self.checkout}.')

    def _run(self, case: Case) -> None:
        kept, work = self.out / case.name, self.out / 'work' / case.name
        for folder in (kept, work):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        for command in case.commands:
            self._command(command, work, kept / 'run.log', case.limit)
        for how, path in case.kept:
            getattr(artefacts, how)(work / path, kept)

    def _command(
        self, command: Sequence[str], work: Path, log: Path, limit: int
    ) -> None:
        places = dict(checkout=self.checkout, golden=GOLDEN)
        arguments = [
            argument.format(**places) if argument.startswith('{') else argument
            for argument in command]
        with open(log, 'a') as file:
            print('$ python', *arguments, file=file, flush=True)
            try:
                code = subprocess.run(
                    [sys.executable, *arguments], cwd=work, env=self._environment(),
                    stdout=file, stderr=subprocess.STDOUT, timeout=limit).returncode
            except subprocess.TimeoutExpired:
                code = f'{limit} s without an end'
        if code:
            tail = '\n'.join(log.read_text(errors='replace').splitlines()[-TAIL:])
            raise GoldenError(f'{tail}\n{log.parent.name} failed ({code}), see {log}.')

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ, 'PYTHONPATH': str(self.checkout), 'PYTHONHASHSEED': '0',
            'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1',
            'OPENBLAS_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '',
            'MPLBACKEND': 'Agg'}


def _processor_seconds() -> float:
    """What the commands so far have used; hardly depends on other processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def shared_data() -> Path:
    """The folder of real weights and images.

    Raises:
        GoldenError: It is not there.
    """
    default = GOLDEN.parents[2] / 'shared' / 'data'
    folder = Path(os.environ.get('MMCOMPRESS_DATA', default)).resolve()
    if not folder.is_dir():
        raise GoldenError(f'There are no weights and images at {folder}; set '
                          'MMCOMPRESS_DATA to their folder.')
    return folder


def machine() -> str:
    """The processor and the libraries that floating-point results depend on."""
    names = [line.partition(':')[2].strip() for line in
             Path('/proc/cpuinfo').read_text().splitlines()
             if line.startswith('model name')] or [platform.processor()]
    return f'{names[0]}, {torch.backends.cpu.get_cpu_capability()}, torch ' \
        f'{torch.__version__}, onnxruntime {version("onnxruntime")}'
