"""A detector from its images to a policy whose COCO mAP the tools agree on."""

import json
from pathlib import Path

import pytest
from command_lines import REPO, metrics_of

CONFIG = """
_base_ = {base!r}
root = {data!r} + '/coco128/'
few = {few!r}
load_from = {data!r} + '/yolox_nano/yolox_nano_coco_mmdet.pth'
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(
    dataset=dict(data_root=root)))
val_dataloader = dict(dataset=dict(data_root=root, ann_file=few))
test_dataloader = dict(
    batch_size=8, num_workers=0, persistent_workers=False,
    dataset=dict(data_root=root, ann_file=few))
val_evaluator = dict(ann_file=few)
test_evaluator = dict(ann_file=few)
compression = dict(channel=dict(divisor=1))
search_cfg = dict(
    type='PolicySearchLoop',
    searcher=dict(type='Uniform', evaluations=1),
    # All images of the file score, so that tools/test.py can read the same ones;
    # without calibration images the stored statistics are used.
    evaluator=dict(
        metric='coco/bbox_mAP', images={count}, calibration_images=0,
        dynamic_bn='off', batch_size=8,
        dataset=dict(_scope_='mmdet', type='CocoDataset', data_root=root,
                     ann_file=few, data_prefix=dict(img='val2017/'), test_mode=True,
                     pipeline={{{{_base_.test_dataloader.dataset.pipeline}}}})),
    targets=dict(macs=[0.985]))
"""
COUNT = 16


def write_few(source: Path, path: Path) -> None:
    """A COCO file of the first images."""
    data = json.loads(source.read_text())
    data['images'] = data['images'][:COUNT]
    kept = {image['id'] for image in data['images']}
    data['annotations'] = [a for a in data['annotations'] if a['image_id'] in kept]
    path.write_text(json.dumps(data))


@pytest.mark.slow
def test_search_and_test(tool, shared_data, tmp_path: Path) -> None:
    few, config = tmp_path / 'few.json', tmp_path / 'nano.py'
    write_few(shared_data / 'coco128/annotations/instances_val128.json', few)
    config.write_text(CONFIG.format(
        base=str(REPO / 'configs/yolox/yolox_nano_coco128.py'), data=str(shared_data),
        few=str(few), count=COUNT))
    assert tool('search', config, cwd=tmp_path).code == 0
    policy = tmp_path / 'work_dirs/nano/policies/macs_0.985.json'
    facts = json.loads(policy.read_text())['facts']
    # Pruned, and it still sees something: else equality would say little.
    assert 0.05 < facts['score'] != facts['dense_score']
    out = tmp_path / 'metrics.json'
    ended = tool('test', config, policy.with_suffix('.pth'), '--policy', policy,
                 '--out', out, cwd=tmp_path)
    assert ended.code == 0, ended
    # Batches of 8 in both; the same images in the same order.
    assert metrics_of(out)['coco/bbox_mAP'] == pytest.approx(facts['score'], abs=1e-6)
