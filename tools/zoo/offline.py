"""What a config only names, built from what is installed: text models and teachers.

GLIP and Grounding DINO take the tokenizer, the config and the weights of BERT from a
hub. The folder ``bert`` has the first two: the sizes of ``bert-base-uncased``, and a
vocabulary of a few words. The weights are random ones. Widths, MACs and parameters are
the real ones.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor, nn

FOLDER = Path(__file__).parent / 'bert'
"""What stands in the place of a name on a hub."""

CHECKPOINTING = {'use_checkpoint': False, 'num_cp': -1}
"""Values that keep all activations; other ones train with less memory."""


def without_hub(node: dict) -> None:
    """Make a part of a config buildable from what is installed, in place.

    Layers that are computed twice when training, to save memory, are built as ordinary
    ones. fairscale, which does so for detection transformers, puts a function that
    holds the layer into the layer itself: a copy would go on calling the original.

    Args:
        node (dict): The part.
    """
    if node.get('type') == 'BertModel':
        node.update(type=random_bert(), name=str(FOLDER))
    if 'lang_model_name' in node:
        node['lang_model_name'] = str(FOLDER)
    node.update({key: value for key, value in CHECKPOINTING.items() if key in node})
    if node.get('type') == 'GroundingDINO':
        mend_grounding_dino()
    if isinstance(node.get('teacher_config'), str):
        # mmdet looks in its own repository; of that, the configs are installed.
        mmdet = Path(importlib.util.find_spec('mmdet').origin).parent
        teacher = Config.fromfile(mmdet / '.mim' / node['teacher_config'])
        node['teacher_config'] = dict(model=teacher.model)


@cache
def mend_grounding_dino() -> None:
    """Let the decoder of Grounding DINO run where mmdet's own does not.

    In onedl-mmdetection 3.5.1 it encodes each of four coordinates of a box in as many
    numbers as a query has channels, which is twice what its next layer takes. In mmdet
    3.3.0, and here, it encodes them in as many as that layer takes.
    """
    from mmdet.models.layers.transformer import dino_layers, grounding_dino_layers

    decoder = grounding_dino_layers.GroundingDinoTransformerDecoder
    encode, forward = dino_layers.coordinate_to_encoding, decoder.forward

    def mended(self: nn.Module, *args: object, **options: object) -> object:
        width = self.ref_point_head.layers[0].in_features // 4
        fitting = partial(_encode, encode, width)
        with mock.patch.object(dino_layers, 'coordinate_to_encoding', fitting):
            return forward(self, *args, **options)

    decoder.forward = mended


def _encode(encode: Callable, width: int, boxes: Tensor, **_: object) -> Tensor:
    return encode(boxes, num_feats=width)


@cache
def random_bert() -> str:
    """The name under which mmdet's BERT is registered without its trained weights."""
    from mmdet.models.language_models import bert

    trained = bert.HFBertModel
    untrained = SimpleNamespace(
        from_pretrained=lambda _, config, **options: trained(config, **options))

    class RandomBert(bert.BertModel):
        """BERT as mmdet builds it, but for where the weights come from."""

        def __init__(self, **options: object) -> None:
            with mock.patch.object(bert, 'HFBertModel', untrained):
                super().__init__(**options)

    MODELS.register_module(module=RandomBert)
    return RandomBert.__name__
