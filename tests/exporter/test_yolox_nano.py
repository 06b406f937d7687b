"""A real detector: the reported mAP is the file's."""

import copy

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmcompress.exporter.export import ExportOptions, export_onnx
from mmcompress.exporter.metadata import read_metadata
from mmcompress.openmmlab.backend import attach
from mmcompress.openmmlab.class_names import class_names_of
from mmcompress.openmmlab.cli import build_model
from mmcompress.openmmlab.evaluators import DatasetEvaluator
from mmcompress.openmmlab.input_shape import input_shape_of


@pytest.mark.slow
def test_map_of_the_file(repo, shared_data, tmp_path):
    cfg = Config.fromfile(repo / 'configs/yolox/yolox_nano_coco128.py')
    init_default_scope('mmdet')
    data = cfg.test_dataloader.dataset
    data.data_root = f'{shared_data}/coco128/'
    model = build_model(
        cfg, str(shared_data / 'yolox_nano/yolox_nano_coco_mmdet.pth'))
    evaluator = DatasetEvaluator(
        'coco/bbox_mAP', images=128, calibration_images=0, dataset=data,
        evaluator=cfg.test_evaluator)
    evaluator.prepare(model, cfg)
    for boxes in (False, True):
        [file] = export_onnx(
            model, tmp_path / f'{boxes}.onnx', ExportOptions(
                input_shape_of(cfg), boxes=boxes, classes=class_names_of(cfg)))
        assert len(read_metadata(file.path)['classes']) == 80
        running = attach(copy.deepcopy(model), file.path, 'onnxruntime')
        # The data's README: 33.6 mAP on these images.
        assert evaluator.measure(running)['coco/bbox_mAP'] == pytest.approx(
            0.336, abs=0.001)
