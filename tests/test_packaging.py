"""What an installation brings, and what it must not demand."""

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from published_policies import write as write_published

import mmcompress

ROOT = Path(__file__).resolve().parents[1]
FILES = ['build', 'docs', 'mminstall', 'optional', 'runtime', 'tests', 'zoo']
FORKS = {'onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection', 'onedl-mmpretrain'}

# A user's config, which inherits from one of mmcompress.
RESOLVE = """
    from pathlib import Path
    import mmcompress
    from mmengine.config import Config
    from mmengine.config.utils import MODULE2PACKAGE
    {before}
    name = {name!r}
    user = Path('user.py')
    user.write_text(f'_base_ = {{name!r}}\\nmine = 1\\n')
    config = Config.fromfile(user)
    assert config.mine == 1 and len(config) > 1, config
    print(Path(Config._get_cfg_path(name, '')[0]).resolve())
    """

# mmengine resolves only packages in its table. The value is where it looks: a module
# rather than the distribution, since for a distribution the original mmengine takes
# site-packages/mmcompress, where an editable installation has nothing.
REGISTER = "MODULE2PACKAGE.setdefault('mmcompress', 'mmcompress.registry')"


@pytest.fixture(scope='module')
def setup_py() -> ModuleType:
    """setup.py, loaded without installing anything."""
    spec = importlib.util.spec_from_file_location('mmcompress_setup', ROOT / 'setup.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def resolve(name: str, folder: Path, *paths: Path, before: str = '') -> Path:
    """Inherit from a config, in a process of its own.

    Args:
        name: The config, as ``mmcompress::method/name.py``.
        folder: Where to work.
        paths: Folders that come before all others on the import path.
        before: Code to run first.

    Returns:
        The path that mmengine finds for the config.
    """
    code = textwrap.dedent(RESOLVE).format(name=name, before=before)
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=folder, capture_output=True, text=True,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(map(str, paths))},
        timeout=300)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


def test_version_is_read_without_importing(setup_py: ModuleType) -> None:
    assert setup_py.read_version() == mmcompress.__version__


def test_installed_metadata_is_current() -> None:
    # `make install` renews it; by hand: pip install -e . --no-build-isolation
    installed = distribution('mmcompress')
    assert installed.version == mmcompress.__version__
    required = {Requirement(text).name for text in installed.requires or []
                if 'extra ==' not in text}
    assert not required & FORKS


@pytest.mark.parametrize('name', FILES)
def test_requirements_parse(setup_py: ModuleType, name: str) -> None:
    requirements = [Requirement(text) for text in setup_py.read_requirements(name)]
    assert requirements
    names = [requirement.name for requirement in requirements]
    assert len(names) == len(set(names))
    if name not in ('build', 'zoo'):  # which bound setuptools and transformers
        bounds = {part.operator for r in requirements for part in r.specifier}
        assert bounds <= {'>=', '!='}
    assert all(r.specifier for r in requirements), 'each has a lower bound'


def test_only_mminstall_names_the_forks(setup_py: ModuleType) -> None:
    for name in FILES:
        names = {Requirement(text).name for text in setup_py.read_requirements(name)}
        assert names & FORKS == (FORKS if name == 'mminstall' else set())


def test_constraints_allow_every_requirement(setup_py: ModuleType) -> None:
    pins = {canonicalize_name(pin.name): pin for pin in map(
        Requirement, setup_py.read_requirements('constraints'))}
    for name in FILES:
        for required in map(Requirement, setup_py.read_requirements(name)):
            pin = pins.get(canonicalize_name(required.name))
            if pin is None:  # chosen by tools/dev/setup_env.sh, or optional
                assert name in ('build', 'optional') or required.name == 'torch'
                continue
            version, = (part.version for part in pin.specifier)
            assert version in required.specifier, required


def test_requirements_txt_includes_files_that_exist() -> None:
    lines = [line for line in (ROOT / 'requirements.txt').read_text().splitlines()
             if not line.startswith('#')]
    assert lines
    for line in lines:
        option, path = line.split()
        assert option == '-r' and (ROOT / path).is_file()


def test_runtime_covers_what_is_imported(setup_py: ModuleType) -> None:
    """Nothing outside requirements/ and OpenMMLab is imported at module level."""
    known = {'mmcompress', 'mmengine', 'mmcv', 'mmdet', 'mmpretrain'}
    known |= {'cv2', 'pycocotools'}  # which mmcv and mmdet bring
    distributions = {
        'scikit-learn': 'sklearn', 'protobuf': 'google', 'pillow': 'PIL'}
    for text in setup_py.read_requirements('runtime'):
        name = Requirement(text).name
        known.add(distributions.get(name, name.replace('-', '_')))
    for path in (ROOT / 'mmcompress').rglob('*.py'):
        if path.is_relative_to(ROOT / 'mmcompress' / 'testing'):
            continue  # of use only with requirements/tests.txt
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            else:
                continue
            tops = {name.partition('.')[0] for name in names}
            foreign = tops - known - sys.stdlib_module_names
            assert not foreign, f'{path}: {foreign} is not in requirements/runtime.txt'


def test_editable_installation_links_configs_and_tools() -> None:
    mim = ROOT / 'mmcompress' / '.mim'
    if not mim.exists():
        pytest.skip('not installed as editable from here (make install)')
    assert (mim / 'configs').resolve() == ROOT / 'configs'
    assert (mim / 'tools').resolve() == ROOT / 'tools'
    assert (mim / 'model-index.yml').is_file()


@pytest.mark.parametrize('path', sorted((ROOT / 'configs').glob('*/metafile.yml')))
def test_metafiles_name_configs_that_exist(path: Path) -> None:
    """One metafile without models breaks every `mmcompress::` config."""
    models = yaml.safe_load(path.read_text())['Models']
    assert models and all((ROOT / model['Config']).is_file() for model in models)


def test_a_source_distribution_has_the_sizes_of_bert() -> None:
    patterns = {p for line in (ROOT / 'MANIFEST.in').read_text().splitlines()
                if line.startswith('recursive-include tools ') for p in line.split()}
    files = list((ROOT / 'tools/zoo/bert').iterdir())
    assert files and all(f'*{file.suffix}' in patterns for file in files)


def test_a_source_distribution_has_the_policies() -> None:
    assert any(line.split()[:2] == ['recursive-include', 'configs']
               and '*.json' in line.split()
               for line in (ROOT / 'MANIFEST.in').read_text().splitlines())
    assert list((ROOT / 'configs').glob('*/policies/*.json'))


def test_mim_is_not_committed() -> None:
    ignored = subprocess.run(
        ['git', 'check-ignore', 'mmcompress/.mim/configs'], cwd=ROOT)
    assert ignored.returncode in (0, 128)  # 128: not a git checkout


@pytest.fixture(scope='module')
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small copy of the source tree, with a config to find."""
    copy = tmp_path_factory.mktemp('source')
    for name in ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'LICENSE'):
        shutil.copy(ROOT / name, copy)
    for name in ('requirements', 'tools', 'mmcompress'):
        shutil.copytree(
            ROOT / name, copy / name,
            ignore=shutil.ignore_patterns('__pycache__', '.mim'))
    (copy / 'configs' / 'method').mkdir(parents=True)
    (copy / 'configs' / 'method' / 'method.py').write_text("word = 'found'\n")
    (copy / 'configs' / 'method' / 'metafile.yml').write_text('Models: []\n')
    write_published(copy / 'configs', 'method/net_macs_0.5')
    return copy


@pytest.fixture(scope='module')
def installed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel of ``source`` is unpacked."""
    target = tmp_path_factory.mktemp('installed')
    subprocess.run(
        [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-index',
         '--no-build-isolation', '--wheel-dir', str(target), str(source)], check=True)
    with zipfile.ZipFile(next(target.glob('*.whl'))) as wheel:
        wheel.extractall(target)
    return target


def test_wheel_brings_configs_and_tools(source: Path, installed: Path) -> None:
    mim = installed / 'mmcompress' / '.mim'
    assert (mim / 'configs' / 'method' / 'method.py').is_file()
    assert (mim / 'tools').is_dir() and not (mim / 'tools' / 'dev').exists()
    assert (mim / 'model-index.yml').read_text() == (
        'Import:\n  - configs/method/metafile.yml\n')
    assert not (source / 'mmcompress' / '.mim').exists()
    packages = {path.name for path in installed.iterdir() if path.is_dir()}
    assert {name for name in packages if '.' not in name} == {'mmcompress'}


LIST = '''
import mmcompress as mmc
for policy in mmc.zoo():
    print(policy.path)
'''


def test_the_zoo_is_that_of_the_wheel(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', LIST], cwd=tmp_path, check=True,
        env={**os.environ, 'PYTHONPATH': str(installed)}, capture_output=True,
        text=True)
    path = 'mmcompress/.mim/configs/method/policies/net_macs_0.5.json'
    assert done.stdout.splitlines() == [str(installed / path)]
    assert (installed / path).is_file()


def test_wheel_brings_templates_of_the_report(source: Path, installed: Path) -> None:
    folder = Path('mmcompress', 'report', 'templates')
    names = {path.name for path in (installed / folder).iterdir()}
    assert names == {path.name for path in (source / folder).iterdir()}
    assert 'report.html.j2' in names


def test_mmengine_resolves_an_installed_config(
        installed: Path, tmp_path: Path) -> None:
    path = resolve('mmcompress::method/method.py', tmp_path, installed, before=REGISTER)
    assert path == installed / 'mmcompress' / '.mim' / 'configs' / 'method/method.py'


def test_mmengine_resolves_a_config_without_installation(
        source: Path, tmp_path: Path) -> None:
    """An editable build links configs; the tree then needs only to be importable."""
    subprocess.run(
        [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-index',
         '--no-build-isolation', '--target', str(tmp_path / 'site'),
         '--editable', str(source)], check=True)
    assert (source / 'mmcompress' / '.mim' / 'configs').is_symlink()
    path = resolve('mmcompress::method/method.py', tmp_path, source, before=REGISTER)
    assert path == source / 'configs' / 'method' / 'method.py'


@pytest.mark.parametrize('before', [
    pytest.param(REGISTER, id='told'),
    pytest.param('', id='as users do'),
])
def test_mmengine_resolves_a_config_of_this_tree(tmp_path: Path, before: str) -> None:
    config = min((ROOT / 'configs').rglob('[!_]*.py'))
    name = config.relative_to(ROOT / 'configs').as_posix()
    assert resolve(f'mmcompress::{name}', tmp_path, before=before) == config
