"""The table of networks at all stages, and what it is written as."""

import csv

from mmcompress.report import (
    Result,
    Results,
    load_results,
    results_table,
    same_sort,
    save_results,
)

MEASURED = {
    'coco/bbox_mAP': 0.5, 'coco/bbox_mAP_50': 0.8, 'coco/segm_mAP': 0.4,
    'coco/segm_mAP_s': 0.1, 'lvis/bbox_mAP': 0.3}


def row(network: str, box: float, mask: float) -> Result:
    return Result(network, 'file', dict(macs=2e9), box, 3e6, 4.0, 'net.onnx',
                  {'coco/segm_mAP': mask})


def test_metrics_of_the_same_sort():
    assert same_sort('coco/bbox_mAP', MEASURED) == {'coco/segm_mAP': 0.4}
    assert same_sort('coco/bbox_mAP_50', MEASURED) == {}
    assert same_sort('accuracy/top1', {'accuracy/top1': 90.0, 'accuracy/top5': 99.0}
                     ) == {}


def test_masks_have_a_column_beside_boxes(tmp_path):
    results = Results((row('dense', 0.5, 0.4), row('macs_0.5', 0.45, 0.37)),
                      'coco/bbox_mAP', 'onnxruntime, 1 thread')
    table = results_table(results)
    assert table.header[4:7] == ('bbox_mAP', 'vs dense', 'segm_mAP')
    assert table.rows[1][4:7] == ('0.4500', '-0.0500', '0.3700')
    save_results(results, tmp_path)
    assert load_results(tmp_path) == results
    with open(tmp_path / 'results.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [(r['coco/bbox_mAP'], r['coco/segm_mAP']) for r in rows] == [
        ('0.5', '0.4'), ('0.45', '0.37')]


def test_boxes_alone_have_one_column():
    results = Results((Result('dense', 'file', metric=0.5),), 'coco/bbox_mAP')
    assert 'segm_mAP' not in results_table(results).header
