"""The model that has what its file has: equal numbers, training, exporting again."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import numpy_helper
from quantised_files import export_w8a8, quantise, random_images
from torch import nn

from mmcompress.exporter.editing import array
from mmcompress.exporter.export import ExportOptions, export_onnx
from mmcompress.exporter.runtimes import OnnxRuntime
from mmcompress.exporter.twin.twin import twin_of
from mmcompress.policy import Bits
from mmcompress.quant.points import file_points, is_own
from mmcompress.surgery.modes import in_float


def outputs(model: nn.Module, network, images) -> list[np.ndarray]:
    """Raw outputs of a model, image by image."""
    with torch.no_grad():
        return [x.numpy() for image in images
                for x in flat(network(model, torch.from_numpy(image)))]


def flat(value) -> list[torch.Tensor]:
    return [value] if torch.is_tensor(value) else [x for v in value for x in flat(v)]


def classify(model, image):
    return model.head(model.extract_feat(image))


def detect(model, image):
    return model.bbox_head(model.extract_feat(image))


def spread_error(got, wanted) -> float:
    """Root mean square difference over the spread, of all outputs together."""
    got, wanted = (np.concatenate([x.ravel() for x in y]) for y in (got, wanted))
    return float(np.sqrt(np.mean((got - wanted) ** 2)) / wanted.std())


@pytest.mark.parametrize('kind', ['classifier', 'detector'])
def test_twin_computes_what_the_file_does(request, tmp_path, kind):
    model = request.getfixturevalue(kind)
    network, size = (classify, 32) if kind == 'classifier' else (detect, 64)
    images = random_images(size, 4)
    _, file = export_w8a8(model, images, tmp_path)
    assert not file.layout.lost
    twin = twin_of(model, [file.layout])
    run = OnnxRuntime(file.path, integers=False)
    got = [x for image in images for x in run(image)]
    apart = spread_error(outputs(model, network, images), got)
    close = spread_error(outputs(twin, network, images), got)
    # A value next to a tie may land on the other integer; the model without points
    # is off by many of them everywhere.
    assert close < apart / 5, (close, apart)


def test_a_silu_in_place_is_found(detector, tmp_path):
    for parent in list(detector.modules()):
        for name, child in parent.named_children():
            if type(child).__name__ == 'Swish':
                setattr(parent, name, nn.SiLU(inplace=True))
    _, file = export_w8a8(detector, random_images(64, 2), tmp_path)
    assert not file.layout.lost
    assert any(site.sigmoid for site in file.layout.points)


def test_biases_are_written_in_the_steps_of_sums(classifier, tmp_path):
    _, file = export_w8a8(classifier, random_images(32, 2), tmp_path)
    convs = [node for node in ir.load(file.path).graph if node.op_type == 'Conv']
    assert len(convs) == 7  # of a ResNet-8; its shortcuts have none
    for conv in convs:
        source, weight = (value.producer() for value in conv.inputs[:2])
        step = np.float64(array(source.inputs[1])) * array(weight.inputs[1])
        sums = array(conv.inputs[2]) / step
        # Float32 holds 24 bits; sums are far below 2^20 here.
        np.testing.assert_allclose(sums, np.rint(sums), atol=0.02)


def test_exporting_a_twin_again_measures_nothing(detector, tmp_path):
    images = random_images(64, 3)
    _, file = export_w8a8(detector, images, tmp_path)
    twin = twin_of(detector, [file.layout])
    other = random_images(64, 5)[3:]  # other images, so other ranges if measured
    [again] = export_onnx(
        twin, tmp_path / 'again.onnx', ExportOptions((3, 64, 64), images=other))
    assert scales(again.path) == pytest.approx(scales(file.path), rel=1e-6)
    first, second = (OnnxRuntime(x.path, integers=False) for x in (file, again))
    got = [x for image in images for x in second(image)]
    wanted = [x for image in images for x in first(image)]
    assert spread_error(got, wanted) < 1e-6


def scales(path) -> dict[str, float]:
    """Scales of activations in a file, by name."""
    return {x.name: float(numpy_helper.to_array(x)) for x in
            onnx.load(path).graph.initializer if x.name.endswith('_scale')
            and not x.dims}


def test_training_moves_points_between_layers(detector, tmp_path):
    images = random_images(64, 2)
    _, file = export_w8a8(detector, images, tmp_path)
    twin = twin_of(detector, [file.layout])
    twin.train()
    optimiser = torch.optim.SGD(twin.parameters(), lr=1e-3)
    sum(x.square().mean() for x in flat(detect(
        twin, torch.cat([torch.from_numpy(image) for image in images])))).backward()
    own = {site.quantizer: site.sigmoid for site in file.layout.points if is_own(site)}
    for name, fixed in own.items():
        step = twin.get_submodule(name).scale
        assert (step.grad is None) == fixed
    optimiser.step()
    [after] = export_onnx(
        twin.eval(), tmp_path / 'after.onnx',
        ExportOptions((3, 64, 64), images=images))
    before, now = scales(file.path), scales(after.path)
    # Layers here have a quantiser each, so those that read one tensor may now differ,
    # which makes a second point of it.
    assert before.keys() <= now.keys()
    assert sum(abs(before[k] / now[k] - 1) > 1e-6 for k in before) > len(before) / 2
    # What sigmoids give has a known range, trained or not.
    assert sum(x == pytest.approx(1 / 256) for x in now.values()) >= sum(own.values())


def test_twin_in_float_is_the_model(classifier, tmp_path):
    images = random_images(32, 2)
    with in_float(classifier):
        wanted = outputs(classifier, classify, images)
    _, file = export_w8a8(classifier, images, tmp_path)
    twin = twin_of(classifier, [file.layout])
    for name, shift in file.layout.shifts.items():
        twin.get_submodule(name).bias.data -= torch.from_numpy(shift)
    with in_float(twin):
        assert spread_error(outputs(twin, classify, images), wanted) < 1e-6


def test_points_of_both_stages_are_numbered_on(two_stage, tmp_path):
    images = random_images(64, 2)

    def run():
        features = two_stage.extract_feat(torch.from_numpy(images[0]))
        two_stage.rpn_head(features)
        two_stage.roi_head.bbox_head(torch.randn(5, 8, 3, 3))

    quantise(two_stage, run, Bits(8, 8))
    files = export_onnx(
        two_stage, tmp_path / 'net.onnx',
        ExportOptions((3, 64, 64), images=images, layout=True))
    twin = twin_of(two_stage, [file.layout for file in files])
    assert len(file_points(twin)) == sum(
        len({s.quantizer for s in file.layout.points if is_own(s)}) for file in files)


def test_what_no_module_returns_is_said(dense_detector, tmp_path):
    # The sums within an FPN are made by its forward itself.
    _, file = export_w8a8(dense_detector('retina'), random_images(64, 2), tmp_path)
    assert file.layout.lost
