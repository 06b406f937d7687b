"""What configs of the zoo only name is built from what is installed."""

import json

import pytest
from mmengine.registry import MODELS

from tools.zoo import check as zoo
from tools.zoo import offline


def test_no_layer_is_computed_twice():
    model = dict(encoder=dict(num_layers=6, num_cp=6), head=dict(use_checkpoint=True))
    zoo._prepare(model)
    assert model == dict(encoder=dict(num_layers=6, num_cp=-1),
                         head=dict(use_checkpoint=False))


def test_a_flag_of_pretrained_weights_stays_one():
    model = dict(backbone=dict(type='mmpretrain.TIMMBackbone', pretrained=True))
    zoo._prepare(model)
    assert model['backbone']['pretrained'] is False


def test_a_teacher_is_read_from_the_installed_configs():
    cfg = zoo.load('mmdet', 'ld/ld_r18-gflv1-r101_fpn_1x_coco.py')
    zoo._prepare(cfg.model)
    backbone = cfg.model.teacher_config.model.backbone
    assert backbone.depth == 101 and backbone.init_cfg is None


def test_a_text_model_is_built_without_a_hub(tmp_path, monkeypatch):
    pytest.importorskip('transformers', reason='make zoo installs transformers')
    zoo.load('mmdet', 'retinanet/retinanet_r18_fpn_1x_coco.py')  # enters mmdet's scope
    # As the real one, but two layers of 12 channels.
    for name in ('vocab.txt', 'tokenizer_config.json', 'config.json'):
        (tmp_path / name).write_text((offline.FOLDER / name).read_text())
    sizes = json.loads((offline.FOLDER / 'config.json').read_text()) | dict(
        hidden_size=12, intermediate_size=24, num_attention_heads=3,
        num_hidden_layers=2, vocab_size=16)
    (tmp_path / 'config.json').write_text(json.dumps(sizes))
    monkeypatch.setattr(offline, 'FOLDER', tmp_path)
    node = dict(type='BertModel', name='bert-base-uncased', max_tokens=8)
    offline.without_hub(node)
    found = MODELS.build(node)(['Person. cat.'])
    # [CLS] person . [UNK] . [SEP] and two of padding, which embed to 0.
    assert found['masks'].tolist() == [[1] * 6 + [0] * 2]
    assert found['embedded'].shape == (1, 8, 12)
    assert not found['embedded'][0, 6:].any() and found['embedded'][0, :6].any()


def test_the_text_model_has_the_sizes_of_the_real_one():
    # bert-base-uncased has 109,482,240 parameters, its pooling layer 590,592 of them:
    # embeddings (30522 + 512 + 2) x 768 + norm 2 x 768; in each of 12 layers
    # 4 x (768 x 768 + 768) + 2 x 768 x 3072 + 3072 + 768 + norms 4 x 768.
    sizes = json.loads((offline.FOLDER / 'config.json').read_text())
    width, inner = sizes['hidden_size'], sizes['intermediate_size']
    layer = (4 * (width**2 + width) + 2 * width * inner + inner + width + 4 * width)
    embeddings = (sizes['vocab_size'] + 512 + 2) * width + 2 * width
    assert embeddings + sizes['num_hidden_layers'] * layer == 109_482_240 - 590_592
