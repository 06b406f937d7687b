"""Installation of mmcompress.

The metadata, and the one thing that setuptools does not know: OpenMMLab's tools
(`_base_ = 'mmcompress::...'`, mim) look for a package's configs and tools in
`<package>/.mim`, while they live at the top of the repository.
"""

import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PACKAGE = 'mmcompress'
# The one place that names where the project is published.
HOME = 'https://github.com/mmcompress/mmcompress'


def read_version() -> str:
    """Read the version without importing the package, which needs torch.

    Returns:
        The value of ``__version__`` in ``mmcompress/__init__.py``.
    """
    text = (ROOT / PACKAGE / '__init__.py').read_text(encoding='utf-8')
    match = re.search(r"^__version__ = ['\"]([^'\"]+)['\"]", text, re.MULTILINE)
    if match is None:
        raise RuntimeError(f'{PACKAGE}/__init__.py has no __version__ line')
    return match[1]


def read_requirements(name: str) -> list[str]:
    """Read one file of requirements/.

    Args:
        name: The file's name without ``.txt``.

    Returns:
        Its requirements, without comments.
    """
    path = ROOT / 'requirements' / f'{name}.txt'
    lines = (line.partition('#')[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def read_readme() -> str:
    """Read the README, which a trimmed source tree need not have.

    Returns:
        Its text with links and pictures that also work where a package is shown.
    """
    path = ROOT / 'README.md'
    text = path.read_text(encoding='utf-8') if path.exists() else ''
    text = re.sub(r'(src(?:set)?=")(?!https?:)', rf'\1{HOME}/raw/main/', text)
    return re.sub(r'(\]\()(?!https?:|#)', rf'\1{HOME}/blob/main/', text)


def write_model_index(mim: Path) -> None:
    """Write the list of metafiles; mmengine resolves no config without it.

    Args:
        mim: The ``.mim`` folder to write into.
    """
    metafiles = sorted((ROOT / 'configs').glob('*/metafile.yml'))
    lines = [f'  - {path.relative_to(ROOT).as_posix()}\n' for path in metafiles]
    body = 'Import:\n' + ''.join(lines) if lines else 'Import: []\n'
    (mim / 'model-index.yml').write_text(body, encoding='utf-8')


def remove(path: Path) -> None:
    """Remove a link, a file or a folder, if it is there."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


class BuildWithMim(build_py):
    """Puts configs and tools into ``mmcompress/.mim``.

    Links in the source tree when the installation is editable, so that edited
    configs are seen; copies in the built package otherwise. Copies never go into the
    source tree: `pip install .` would leave them there to grow stale.
    """

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            self.fill(ROOT / PACKAGE / '.mim', link=os.name != 'nt')
        else:
            self.fill(Path(self.build_lib).resolve() / PACKAGE / '.mim', link=False)

    def fill(self, mim: Path, link: bool) -> None:
        """Make a ``.mim`` folder, over what an earlier installation left.

        Args:
            mim: The folder.
            link: Link to the originals (Windows lets only administrators do so).
        """
        remove(mim)
        mim.mkdir(parents=True)
        for name in ('configs', 'tools'):
            if link:
                relative = os.path.relpath(ROOT / name, mim)
                (mim / name).symlink_to(relative, target_is_directory=True)
            else:
                shutil.copytree(
                    ROOT / name, mim / name,
                    ignore=shutil.ignore_patterns('__pycache__', 'dev'))
        write_model_index(mim)


if __name__ == '__main__':
    setup(
        name=PACKAGE,
        version=read_version(),
        description='Compress the networks that OpenMMLab users already have',
        long_description=read_readme(),
        long_description_content_type='text/markdown',
        license='Apache-2.0',
        keywords='computer vision, model compression, pruning, quantisation',
        classifiers=[
            'Development Status :: 3 - Alpha',
            'Environment :: Console',
            'Intended Audience :: Developers',
            'Intended Audience :: Science/Research',
            'Operating System :: OS Independent',
            'Programming Language :: Python :: 3',
            'Programming Language :: Python :: 3 :: Only',
            *(f'Programming Language :: Python :: 3.{n}' for n in range(10, 14)),
            'Topic :: Scientific/Engineering :: Artificial Intelligence',
            'Topic :: Scientific/Engineering :: Image Recognition',
            'Typing :: Typed',
        ],
        url=HOME,
        project_urls={
            'Change log': f'{HOME}/blob/main/CHANGELOG.md',
            'Documentation': f'{HOME}/tree/main/docs',
            'Issues': f'{HOME}/issues',
            'Source': HOME,
        },
        packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
        package_data={PACKAGE: ['py.typed', 'report/templates/*']},
        entry_points={'console_scripts': [f'{PACKAGE} = {PACKAGE}.__main__:main']},
        python_requires='>=3.10',
        # mmengine, mmcv, mmdet and mmpretrain are needed too, but two families of
        # packages provide them: naming either here would break users of the other.
        install_requires=read_requirements('runtime'),
        extras_require={
            'mminstall': read_requirements('mminstall'),
            'optional': read_requirements('optional'),
            'tests': read_requirements('tests'),
            'docs': read_requirements('docs'),
        },
        cmdclass={'build_py': BuildWithMim},
        zip_safe=False,
    )
