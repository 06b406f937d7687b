"""Files that compute what the model computes, and say what they are."""

import copy

import numpy as np
import onnx
import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from mmcompress.data.images import Batch
from mmcompress.data.preprocessing import UNKNOWN
from mmcompress.errors import ExportError
from mmcompress.exporter.agreement import relative_error, without_edge
from mmcompress.exporter.export import ExportOptions, export_onnx
from mmcompress.exporter.metadata import read_metadata
from mmcompress.exporter.parts import flatten, nest, number
from mmcompress.layers.quantised import quantised_layers
from mmcompress.mutators.rebuild import quantise
from mmcompress.openmmlab.backend import FileNetwork, attach
from mmcompress.policy import Bits, Policy
from mmcompress.quant.calibration import calibrate


def sample(shape: tuple[int, int]):
    """What mmdet's post-processing needs to know of an image."""
    from mmdet.structures import DetDataSample

    return DetDataSample(metainfo=dict(
        img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0), img_id=0))


def test_nesting():
    a, b, c = (torch.full((), i) for i in range(3))
    value = ([a, b], None, c)
    assert number(value) == [[0, 1], None, 2]
    assert nest(number(value), flatten(value)) == ((a, b), None, c)


def test_detector_file_predicts_what_the_model_predicts(detector, detector_file):
    path, file = detector_file.path, detector_file
    assert path.name == 'net.onnx' and file.error < 1e-4
    assert [p.name for p in path.parent.iterdir()] == ['net.onnx']
    nodes = onnx.load(path).graph.node
    assert 'BatchNormalization' not in {node.op_type for node in nodes}
    # Nothing that torch notes, such as stack traces with the names of folders.
    assert {note.key for node in nodes for note in node.metadata_props} == {
        'mmcompress.layer'}

    facts = read_metadata(path)
    assert facts['model'] == 'YOLOX' and facts['classes'] == ['a', 'b', 'c']
    assert facts['shape'] == [3, 64, 96] and facts['batch'] == 1
    assert facts['structure'] == [[0, 1], [2, 3], [4, 5]]
    assert facts['preprocessing'] == dict(
        layout='NCHW', colour_order=None, resize=None, crop=None,
        # what the normalisation turns into the zeros beside an image
        padding=dict(value=[10.0, 20.0, 30.0], position='bottom right', border='image'),
        scale=1.0, mean=[10.0, 20.0, 30.0], std=[50.0, 60.0, 70.0], unclear=[UNKNOWN])
    assert [list(output.values()) for output in facts['outputs']] == [
        [role, activation, stride] for role, activation in (
            ('classes', 'sigmoid'), ('boxes', 'none'), ('objectness', 'sigmoid'))
        for stride in (8, 16)]

    images = torch.randn(2, 3, 64, 96)
    samples = [sample((64, 96)) for _ in range(2)]
    wanted = detector(images, samples, mode='predict')
    wanted = [s.pred_instances.clone() for s in wanted]
    for weight in detector.parameters():
        nn.init.zeros_(weight)
    detector = copy.deepcopy(  # as EMAHook does
        attach(detector, path, 'onnxruntime', threads=1))
    # Two images through a file that takes one.
    got = detector(images, [sample((64, 96)) for _ in range(2)], mode='predict')
    for a, b in zip(got, wanted):
        assert len(b.scores)
        torch.testing.assert_close(
            a.pred_instances.bboxes, b.bboxes, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(
            a.pred_instances.scores, b.scores, rtol=1e-3, atol=1e-4)


def compare_regions(model, path, images) -> list[tuple]:
    """Instances of the files and of the model, whose scores and boxes are equal."""
    wanted = [s.pred_instances.clone() for s in model(
        images, [sample((64, 64)) for _ in range(2)], mode='predict')]
    for weight in model.parameters():
        nn.init.zeros_(weight)
    attach(model, path, 'onnxruntime', threads=1)
    got = model(images, [sample((64, 64)) for _ in range(2)], mode='predict')
    pairs = list(zip((s.pred_instances for s in got), wanted))
    for a, b in pairs:
        assert len(a) == len(b) > 0
        torch.testing.assert_close(a.scores, b.scores, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(a.bboxes, b.bboxes, rtol=1e-2, atol=1e-1)
    return pairs


@pytest.mark.parametrize('bits', [32, 8])
def test_both_stages_of_a_detector(two_stage, tmp_path, bits):
    images = torch.randn(2, 3, 64, 64)
    quantise(two_stage, Policy(bits={
        'backbone.layer1.0.conv2': Bits(bits, bits),
        'roi_head.bbox_head.shared_fcs.0': Bits(bits, bits)}), (3, 64, 64))
    calibrate(two_stage, quantised_layers(two_stage), [
        Batch(images, [sample((64, 64)) for _ in range(2)])])
    files = export_onnx(
        two_stage, tmp_path / 'net.onnx',
        ExportOptions((3, 64, 64), images=[images[:1].numpy()]))
    assert [f.path.name for f in files] == ['net.onnx', 'net.roi_head.onnx']
    kinds = [[n.op_type for n in onnx.load(f.path).graph.node] for f in files]
    # The weight and the input of a layer; the one of the linear layer moves before the
    # reshape as well.
    assert [k.count('DequantizeLinear') for k in kinds] == (
        [2, 3] if bits == 8 else [0, 0])
    compare_regions(two_stage, files[0].path, images)
    with pytest.raises(ExportError, match='FasterRCNN cannot be baked'):
        export_onnx(two_stage, tmp_path / 'net.onnx', ExportOptions(
            (3, 64, 64), boxes=True, images=[images[:1].numpy()]))


@pytest.mark.parametrize(('kind', 'names', 'layers', 'quantised'), [
    ('mask', ['roi_head', 'mask_head'], ['mask_head.convs.0.conv'], ['mask_head']),
    ('cascade', ['roi_head.0', 'roi_head.1', 'mask_head.0', 'mask_head.1'],
     ['bbox_head.1.shared_fcs.0', 'mask_head.1.upsample'],
     ['roi_head.1', 'mask_head.1'])])
@pytest.mark.parametrize('bits', [32, 8])
def test_masks_and_cascades(
    region_detector, kind, names, layers, quantised, bits, tmp_path
):
    model = region_detector(kind)
    images = torch.randn(2, 3, 64, 64)
    samples = [sample((64, 64)) for _ in range(2)]
    quantise(model, Policy(bits={
        f'roi_head.{name}': Bits(bits, bits) for name in layers}), (3, 64, 64))
    calibrate(model, quantised_layers(model), [Batch(images, samples)])
    files = export_onnx(
        model, tmp_path / 'net.onnx',
        ExportOptions((3, 64, 64), images=[images[:1].numpy()]))
    assert [f.path.name for f in files] == [
        'net.onnx', *(f'net.{name}.onnx' for name in names)]
    integers = [f.path.name.split('.', 1)[1] for f in files if any(
        n.op_type == 'DequantizeLinear' for n in onnx.load(f.path).graph.node)]
    assert integers == ([f'{name}.onnx' for name in quantised] if bits == 8 else [])
    for a, b in compare_regions(model, files[0].path, images):
        # A pixel of a mask that is next to the threshold may fall on the other side.
        assert (a.masks != b.masks).float().mean() < 0.01
        assert 0 < b.masks.float().mean() < 1


@pytest.mark.parametrize('kind', ['yolox', 'retina', 'fcos', 'gfl'])
def test_boxes_inside_the_file(detector, dense_detector, kind, tmp_path):
    if kind != 'yolox':
        detector = dense_detector(kind)
    [file] = export_onnx(
        detector, tmp_path / 'net.onnx', ExportOptions((3, 64, 64), boxes=True))
    images = torch.randn(2, 3, 64, 64)
    wanted = [s.pred_instances for s in detector(
        images, [sample((64, 64)) for _ in range(2)], mode='predict')]
    attach(detector, file.path, 'onnxruntime')
    got = detector(images, [sample((64, 64)) for _ in range(2)], mode='predict')
    for a, b in zip((s.pred_instances for s in got), wanted):
        assert len(a) == len(b) > 0
        order = b.scores.argsort(descending=True)
        torch.testing.assert_close(a.scores, b.scores[order], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(a.bboxes, b.bboxes[order], rtol=1e-3, atol=1e-2)
        assert torch.equal(a.labels, b.labels[order])


def test_boxes_of_a_smaller_image_end_at_its_border(dense_detector, tmp_path):
    detector = dense_detector('retina')
    [file] = export_onnx(
        detector, tmp_path / 'net.onnx', ExportOptions((3, 64, 64), boxes=True))
    attach(detector, file.path, 'onnxruntime')
    [found] = detector(torch.randn(1, 3, 32, 48), [sample((32, 48))], mode='predict')
    corner = found.pred_instances.bboxes.amax(0)
    assert corner[2] <= 48 and corner[3] <= 32


def test_suppression_that_a_file_cannot_have(detector, tmp_path):
    for nms in (dict(type='soft_nms'), dict(type='nms', class_agnostic=True)):
        detector.bbox_head.test_cfg.nms = nms
        with pytest.raises(ExportError, match='plain nms by class can'):
            export_onnx(detector, tmp_path / 'net.onnx',
                        ExportOptions((3, 64, 64), boxes=True))


@pytest.mark.parametrize('kind', ['classifier', 'detector'])
def test_files_with_any_batch(request, kind, tmp_path):
    model = request.getfixturevalue(kind)
    shape = (3, 32, 32) if kind == 'classifier' else (3, 64, 96)
    [file] = export_onnx(
        model, tmp_path / 'net.onnx', ExportOptions(shape, dynamic_batch=True))
    assert read_metadata(file.path)['batch'] == 0
    network = FileNetwork(file.path, 'onnxruntime')
    for count in (1, 2, 5, 16):
        images = torch.randn(count, *shape)
        assert len(network.runtime(images.numpy())[0]) == count
        with torch.no_grad():
            wanted = flatten(model(images))
        for a, b in zip(flatten(network(images)), wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_batch_that_does_not_fill_the_file(classifier, tmp_path):
    [file] = export_onnx(
        classifier, tmp_path / 'net.onnx', ExportOptions((3, 32, 32), batch=4))
    images = torch.randn(6, 3, 32, 32)
    with torch.no_grad():
        wanted = classifier(images)
    network = FileNetwork(file.path, 'onnxruntime')
    torch.testing.assert_close(network(images), wanted, rtol=1e-4, atol=1e-4)


def test_smaller_images_are_padded_and_larger_ones_refused(detector_file):
    network = FileNetwork(detector_file.path, 'onnxruntime')
    scores, _, _ = network(torch.randn(1, 3, 48, 64))
    assert scores[0].shape == (1, 3, 8, 12)
    with pytest.raises(ExportError, match='does not fit'):
        network(torch.randn(1, 3, 80, 64))


class EngineLinear(BaseModel):
    """A model of mmengine that is neither a detector nor a classifier."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        """What goes in comes out."""
        return inputs


def test_mistakes_are_named(detector, classifier, tmp_path):
    with pytest.raises(ExportError, match='differs from the model'):
        export_onnx(classifier, tmp_path / 'net.onnx',
                    ExportOptions((3, 32, 32), tolerance=1e-30))
    assert not list(tmp_path.iterdir())
    with pytest.raises(ExportError, match='Linear cannot be exported'):
        export_onnx(EngineLinear(), tmp_path / 'net.onnx', ExportOptions((3, 64, 64)))
    with pytest.raises(ExportError, match='takes one image'):
        export_onnx(detector, tmp_path / 'net.onnx',
                    ExportOptions((3, 64, 64), 2, boxes=True))
    with pytest.raises(ExportError, match='no file'):
        attach(detector, tmp_path / 'net.onnx', 'onnxruntime')
    (tmp_path / 'bad.onnx').write_bytes(b'no model at all')
    with pytest.raises(ExportError, match='cannot be read as ONNX'):
        attach(detector, tmp_path / 'bad.onnx', 'onnxruntime')
    [file] = export_onnx(classifier, tmp_path / 'net.onnx', ExportOptions((3, 32, 32)))
    with pytest.raises(ExportError, match='is a ImageClassifier'):
        attach(detector, file.path, 'onnxruntime')
    with pytest.raises(ExportError, match='Unknown backend'):
        attach(classifier, file.path, 'abacus')


def test_training_modes_are_kept(classifier, tmp_path):
    classifier.train()
    classifier.backbone.eval()
    export_onnx(classifier, tmp_path / 'net.onnx', ExportOptions((3, 32, 32)))
    assert classifier.training and not classifier.backbone.training


def test_scores_at_the_edge_of_a_selection():
    wanted = np.ones(2000)
    got = wanted.copy()
    got[0] = 0  # one of 2,000 was dropped, which is allowed
    assert without_edge([got], [wanted])[0].all()
    got[:3] = 0
    assert not without_edge([got], [wanted])[0][:3].any()


def test_relative_error():
    a = torch.tensor([1.0, -4.0]).numpy()
    # |1.2 - 1| / 4 = 0.05
    assert relative_error(a + [0.2, 0], a) == pytest.approx(0.05)
    assert relative_error(a[:1], a) == float('inf')
