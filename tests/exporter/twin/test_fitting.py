"""Fitting scales, zero points and biases to the float network's outputs."""

import numpy as np
import pytest
import torch
from quantised_files import export_w8a8, quantise, random_images

from mmcompress.errors import ExportError
from mmcompress.exporter.export import ExportOptions, export_onnx
from mmcompress.exporter.runtimes import OnnxRuntime
from mmcompress.exporter.twin.fitting import ZERO_POINT, Change, fit_quantisers
from mmcompress.exporter.twin.twin import twin_of
from mmcompress.policy import Bits
from mmcompress.surgery.modes import in_float

SHAPE = (3, 32, 32)


def float_outputs(model, images) -> list[np.ndarray]:
    with torch.no_grad(), in_float(model):
        return [model.head(model.extract_feat(torch.from_numpy(x))).numpy()
                for x in images]


def error(got, wanted) -> float:
    """Squared error over variance, as of a :class:`Fit` with one output."""
    got, wanted = np.concatenate(got), np.concatenate(wanted)
    return float(np.mean((got - wanted) ** 2) / wanted.var(ddof=1))


@pytest.fixture
def exported(classifier, tmp_path):
    """Model, twin and images."""
    images = random_images(32, 8)
    _, file = export_w8a8(classifier, images, tmp_path)
    return classifier, twin_of(classifier, [file.layout]), images


def test_the_file_comes_closer_to_the_float_network(exported, tmp_path):
    model, twin, images = exported
    before = {n: p.clone() for n, p in twin.named_parameters()}
    fit = fit_quantisers(twin, model, SHAPE, images, steps=60)
    assert fit.after < 0.8 * fit.before, fit
    [file] = export_onnx(
        twin, tmp_path / 'fitted.onnx', ExportOptions(SHAPE, images=images))
    run = OnnxRuntime(file.path, integers=False)
    got = error([run(x)[0] for x in images], float_outputs(model, images))
    # What was fitted is what the file computes, but for ties of rounding.
    assert got == pytest.approx(fit.after, rel=0.5) and got < fit.before
    changed = {n for n, p in twin.named_parameters() if not torch.equal(p, before[n])}
    assert changed
    assert all(n.endswith(('.scale', '.zero_point', '.bias')) for n in changed)
    assert all((p > 0).all() for n, p in twin.named_parameters()
               if n.endswith('.scale'))


def test_one_seed_gives_one_fit(exported):
    model, twin, images = exported
    first = {n: p.clone() for n, p in twin.named_parameters()}
    fits, weights = [], []
    for seed in (3, 3, 4):
        with torch.no_grad():
            for name, parameter in twin.named_parameters():
                parameter.copy_(first[name])
        fits.append(fit_quantisers(twin, model, SHAPE, images, steps=3, seed=seed))
        weights.append(torch.cat([p.flatten() for p in twin.parameters()]).detach())
    assert fits[0] == fits[1] and torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not any(p.grad is not None for p in twin.parameters())


def test_nothing_is_made_worse(exported, monkeypatch):
    model, twin, images = exported
    before = [p.clone() for p in twin.parameters()]
    monkeypatch.setattr('mmcompress.exporter.twin.fitting.RATE', 1.0)
    fit = fit_quantisers(twin, model, SHAPE, images, steps=2)
    assert fit.after == fit.before
    assert all(map(torch.equal, before, twin.parameters()))


def test_units_of_changes():
    number = torch.tensor([0.0, 0.5])
    # A scale by e^0 and e^0.5; a zero point by 0 and 25 steps.
    assert Change(torch.full((2,), 2.0), None).value(number).tolist() == pytest.approx(
        [2.0, 3.2974], rel=1e-4)
    assert Change(torch.full((2,), 3.0), ZERO_POINT).value(number).tolist() == [3, 28]


def test_what_cannot_be_fitted(classifier):
    with pytest.raises(ExportError, match='nothing to fit'):
        fit_quantisers(classifier, classifier, SHAPE, [])


def test_symmetric_zero_points_stay(classifier):
    images = random_images(32, 4)
    quantise(classifier, lambda: classifier(torch.from_numpy(images[0])), Bits(8, 4))
    points = {n: p for n, p in classifier.named_parameters()
              if n.endswith('zero_point')}
    for point in points.values():
        point.requires_grad_(False)
    before = {n: p.clone() for n, p in points.items()}
    fit_quantisers(classifier, classifier, SHAPE, images, steps=3)
    assert points and all(torch.equal(p, before[n]) for n, p in points.items())
