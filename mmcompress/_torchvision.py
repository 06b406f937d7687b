"""Lets torchvision be imported where its compiled operators cannot be loaded.

torchvision's wheel on PyPI is built for one build of torch. Next to another one (a CPU
torch without its CPU torchvision, say) its library of operators does not load.
torchvision means to live with that, but registers fake kernels for
``torchvision::nms`` and ``torchvision::qnms`` as it is imported, which torch refuses
for operators that it has never heard of: "operator torchvision::nms does not exist".
mmdet and mmpretrain import torchvision for its pure-Python parts alone (transforms,
dataset readers), so that declaring the two operators, without any kernel, is all they
lack. Who does call one is still told by torchvision that its operators could not be
loaded.

Where torchvision is absent, or its operators load, this does nothing. It has to be
imported before torchvision is; importing mmcompress before mmdet or mmpretrain is
enough.
"""

import importlib.util
import logging
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
)

import torch

SCHEMAS = (
    'nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
    'qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
)
"""As torchvision's C++ sources declare them."""

LIBRARIES = ('_C_stable', '_C')
"""torchvision's library of operators from 0.29 on, and before."""

# torch forgets the declarations of a Library that is garbage collected.
_libraries: list[torch.library.Library] = []


def _operators_load(folder: str) -> bool:
    """Load torchvision's operators, as torchvision itself is going to.

    Loading a library twice is harmless: the second time does nothing.

    Args:
        folder: Where torchvision is installed.

    Returns:
        Whether they are there now.
    """
    finder = FileFinder(folder, (ExtensionFileLoader, EXTENSION_SUFFIXES))
    library = next(filter(None, map(finder.find_spec, LIBRARIES)), None)
    if library is None:
        return False
    try:
        torch.ops.load_library(library.origin)
    except (ImportError, OSError):
        return False
    return hasattr(torch.ops.torchvision, 'nms')


def declare_missing_operators() -> bool:
    """Declare the operators that torchvision expects, if they cannot be loaded.

    Returns:
        Whether anything was declared.
    """
    if hasattr(torch.ops.torchvision, 'nms'):
        return False  # loaded by torchvision, or declared by an earlier call
    spec = importlib.util.find_spec('torchvision')
    if spec is None or not spec.submodule_search_locations:
        return False
    if _operators_load(spec.submodule_search_locations[0]):
        return False
    library = torch.library.Library('torchvision', 'FRAGMENT')
    for schema in SCHEMAS:
        library.define(schema)
    _libraries.append(library)
    logging.getLogger(__name__).info(
        'torchvision in %s does not fit torch %s: its operators (torchvision.ops) '
        'cannot be used, the rest can', spec.submodule_search_locations[0],
        torch.__version__)
    return True


declare_missing_operators()
