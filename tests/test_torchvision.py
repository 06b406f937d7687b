"""torchvision can be imported whether or not its compiled operators load.

Each case has a process of its own: what torch has been told of an operator stays.
"""

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# What torchvision's own package does with the operators as it is imported.
BROKEN_TORCHVISION = """
    import torch

    @torch.library.register_fake('torchvision::nms')
    def nms(dets, scores, iou_threshold):
        return dets.new_empty(0, dtype=torch.long)

    @torch.library.register_fake('torchvision::qnms')
    def qnms(dets, scores, iou_threshold):
        return dets.new_empty(0, dtype=torch.long)
"""


def run(code: str, *paths: Path) -> subprocess.CompletedProcess:
    """Run Python code, with folders before all others on the import path."""
    search = os.pathsep.join(str(path) for path in (*paths, ROOT))
    return subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code)],
        env={**os.environ, 'PYTHONPATH': search, 'OMP_NUM_THREADS': '1'},
        capture_output=True, text=True, timeout=300)


def succeed(code: str, *paths: Path) -> None:
    done = run(code, *paths)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A folder with a torchvision that has no library of operators."""
    package = tmp_path / 'torchvision'
    package.mkdir()
    (package / '__init__.py').write_text(textwrap.dedent(BROKEN_TORCHVISION))
    return tmp_path


def test_operators_that_cannot_load_are_the_problem(broken: Path) -> None:
    done = run('import torchvision', broken)
    assert 'operator torchvision::nms does not exist' in done.stderr


def test_operators_that_cannot_load_are_declared(broken: Path) -> None:
    succeed("""
        import mmcompress
        import torch, torchvision
        from mmcompress import _torchvision
        assert str(torch.ops.torchvision.nms.default._schema) == (
            'torchvision::nms(Tensor dets, Tensor scores, float iou_threshold) '
            '-> Tensor')
        assert hasattr(torch.ops.torchvision, 'qnms')
        # Once is enough, and a second time is not an error.
        assert _torchvision.declare_missing_operators() is False
        """, broken)


# 0.29 has another name for it.
@pytest.mark.parametrize('name', ['_C', '_C_stable'])
def test_a_library_that_does_not_load_counts_as_none(broken: Path, name: str) -> None:
    (broken / 'torchvision' / f'{name}.so').write_bytes(b'not a library')
    succeed('import mmcompress, torchvision', broken)


@pytest.mark.parametrize('name', ['_C', '_C_stable'])
def test_operators_that_load_are_left_alone(broken: Path, name: str) -> None:
    (broken / 'torchvision' / f'{name}.so').touch()
    succeed(f"""
        import torch

        def load(path):
            assert path.endswith('{name}.so')
            global library
            library = torch.library.Library('torchvision', 'DEF')
            library.define('nms(Tensor a, Tensor b, float c) -> Tensor')

        torch.ops.load_library = load
        from mmcompress import _torchvision
        assert not _torchvision._libraries
        assert not hasattr(torch.ops.torchvision, 'qnms')
        """, broken)


def test_operators_already_there_are_left_alone(broken: Path) -> None:
    succeed("""
        import torch
        library = torch.library.Library('torchvision', 'DEF')
        library.define('nms(Tensor a, Tensor b, float c) -> Tensor')
        from mmcompress import _torchvision
        assert not _torchvision._libraries
        """, broken)


def test_absent_torchvision_needs_nothing() -> None:
    succeed("""
        import sys
        sys.modules['torchvision'] = None  # an import of it fails
        import mmcompress, torch
        from mmcompress import _torchvision
        assert not _torchvision._libraries
        assert not hasattr(torch.ops.torchvision, 'nms')
        """)


def test_the_installed_torchvision() -> None:
    if importlib.util.find_spec('torchvision') is None:
        pytest.skip('torchvision is not installed')
    succeed("""
        import mmcompress
        import torch, torchvision
        from torchvision import transforms
        assert transforms.Resize(4)(torch.zeros(3, 8, 8)).shape == (3, 4, 4)
        from mmcompress import _torchvision
        box, score = torch.tensor([[0., 0., 1., 1.]]), torch.ones(1)
        if _torchvision._libraries:
            # torchvision's own message, not a crash, for those who call an operator.
            try:
                torchvision.ops.nms(box, score, 0.5)
            except RuntimeError as error:
                assert "Couldn't load custom C++ ops" in str(error), error
            else:
                raise AssertionError('nms ran without a kernel')
        else:
            assert torchvision.ops.nms(box, score, 0.5).tolist() == [0]
        """)
